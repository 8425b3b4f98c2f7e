"""How long stages take on a simulated machine: by the profile, with its noise, at a pace."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from appliance.engine import Engine, Latency
from appliance.errors import WorkloadError

_P95 = 1.6449
"""How many standard deviations the 95th percentile of a normal lies above its median."""


class StagePace:
    """Draws the time of a run from a log-normal with the profile's median and 95th percentile.

    Where it is not `noisy` it is always the median. `pace` says how many times slower the machine
    is than the profile. Batches that were not profiled lie between their neighbours, larger ones
    than all take as long an item as the largest.
    """

    def __init__(self, engine: Engine, *, pace: float, noisy: bool, seed: int) -> None:
        for number, stage in enumerate(engine.stages):
            if not any(latency.p50_s > 0.0 for latency in stage.latency.values()):
                raise WorkloadError(
                    f"the profile of {engine.name} does not tell how long stage {number} takes:"
                    f" run `delen profile {engine.folder}`"
                )
        self.busy_s = 0.0
        """How long the machine has worked."""
        self._stages = [stage.latency for stage in engine.stages]
        self._pace = pace
        self._noisy = noisy
        self._chance = random.Random(f"stages {seed} {engine.name}")
        self._known: dict[tuple[int, int], tuple[float, float]] = {}

    def duration_s(self, stage: int, size: int) -> float:
        """How long the next run of a stage takes for a batch of `size`."""
        known = self._known.get((stage, size))
        if known is None:
            known = self._known[stage, size] = _log_normal(self._stages[stage], size)
        median_s, spread = known
        duration_s = median_s * self._pace
        if self._noisy and spread > 0.0:
            duration_s *= math.exp(spread * self._chance.gauss(0.0, 1.0))
        self.busy_s += duration_s
        return duration_s


def _log_normal(profiled: Mapping[int, Latency], size: int) -> tuple[float, float]:
    """The median for a batch size, and the standard deviation of its logarithm."""
    smaller = max((known for known in profiled if known <= size), default=None)
    larger = min((known for known in profiled if known >= size), default=None)
    if larger is None and smaller is not None:
        latency, scale = profiled[smaller], size / smaller
    elif smaller is None and larger is not None:
        latency, scale = profiled[larger], 1.0
    elif smaller is not None and larger is not None:
        latency = profiled[larger]
        low_s, high_s = profiled[smaller].p50_s, latency.p50_s
        part = 0.0 if larger == smaller else (size - smaller) / (larger - smaller)
        scale = (low_s + part * (high_s - low_s)) / high_s if larger != smaller else 1.0
    else:
        raise ValueError("a stage without a profile")
    spread = math.log(latency.p95_s / latency.p50_s) / _P95 if latency.p95_s > 0.0 else 0.0
    return latency.p50_s * scale, max(0.0, spread)
