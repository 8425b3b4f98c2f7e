"""Requests drawn from a process."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Mapping

from appliance.workload.trace import Arrival, Bursty, Poisson, Process


def draw(processes: Mapping[str, Process], *, seconds: float, seed: int) -> Iterator[Arrival]:
    """The requests of every tenant's process for so long, in the order of their times.

    Each tenant's depend on the seed and its name alone, whoever is beside it.
    """
    return heapq.merge(
        *(_arrivals(tenant, process, seconds, seed) for tenant, process in processes.items()),
        key=lambda arrival: arrival.at_s,
    )


def _arrivals(tenant: str, process: Process, seconds: float, seed: int) -> Iterator[Arrival]:
    chance = random.Random(f"arrivals {seed} {tenant}")
    times_s = (
        _poisson(process, chance) if isinstance(process, Poisson) else _bursty(process, chance)
    )
    for at_s in times_s:
        if at_s >= seconds:
            return
        yield Arrival(at_s=at_s, tenant=tenant)


def _poisson(process: Poisson, chance: random.Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += chance.expovariate(process.rate_hz)
        yield at_s


def _bursty(process: Bursty, chance: random.Random) -> Iterator[float]:
    at_s, busy = 0.0, False
    ends_s = chance.expovariate(1.0 / process.quiet_s)
    while True:
        rate_hz = process.busy_hz if busy else process.quiet_hz
        next_s = at_s + chance.expovariate(rate_hz) if rate_hz > 0.0 else math.inf
        if next_s < ends_s:
            at_s = next_s
            yield at_s
        else:
            # What is left of the wait is forgotten with the phase: an exponential has no memory.
            at_s, busy = ends_s, not busy
            ends_s += chance.expovariate(1.0 / (process.busy_s if busy else process.quiet_s))
