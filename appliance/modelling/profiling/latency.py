"""How long the stages of an engine take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.backends.protocol import Backend
from appliance.engine import Engine, Latency
from appliance.modelling.profiling.figures import rounded

WARM_UP_RUNS = 5


def measure_latency(  # noqa: PLR0913 - a measurement states its conditions
    backend: Backend,
    engine: Engine,
    *,
    batches: Sequence[int] = (1,),
    runs: int = 50,
    clock: Callable[[], float] = time.perf_counter,
    report: Callable[[float], None] = lambda _done: None,
) -> tuple[dict[int, Latency], ...]:
    """What each stage takes per batch size, on an open backend: one mapping per stage.

    Each run goes through all stages, as a request does, with noise for a frame. `clock` gives
    seconds; `report` is told which fraction is done.
    """
    noise = np.random.default_rng(0).random((1, *engine.input.shape)).astype(engine.input.dtype)
    latencies: tuple[dict[int, Latency], ...] = tuple({} for _ in engine.stages)
    for number, size in enumerate(batches, start=1):
        for _ in range(WARM_UP_RUNS):
            _timed_chain(backend, engine, noise, size, clock)
        times_s = np.array([_timed_chain(backend, engine, noise, size, clock) for _ in range(runs)])
        for stage, stage_times_s in enumerate(times_s.T):
            p50_s, p95_s = np.percentile(stage_times_s, (50, 95)).tolist()
            latencies[stage][size] = Latency(p50_s=rounded(p50_s), p95_s=rounded(p95_s))
        report(number / len(batches))
    return latencies


def _timed_chain(
    backend: Backend,
    engine: Engine,
    frame: NDArray[np.generic],
    size: int,
    clock: Callable[[], float],
) -> list[float]:
    """Runs a batch of frames through all stages: the seconds that each of them took."""
    features: Sequence[object] = [backend.feed(frame) for _ in range(size)]
    times_s = []
    for stage in range(len(engine.stages)):
        started_s = clock()
        _, features = backend.run(stage, features)
        times_s.append(clock() - started_s)
    return times_s
