"""What the stages of an engine cost here, by a meter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from appliance.backends.protocol import Backend
from appliance.engine import Engine
from appliance.modelling.profiling.figures import rounded
from appliance.power.meters import MODELLED, MeterOptions
from appliance.power.protocol import Reading
from appliance.power.sampler import Sampler

WINDOW_S = 2.0
"""For how long the idle machine, and each stage, is watched."""

SETTLING_S = 0.3
"""How long the sensors may lag behind what is done."""

FIRST_READING_TIMEOUT_S = 8.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredEnergy:
    """Joules of each stage at batch size 1, above those of the idle machine."""

    meter: str
    idle_w: float
    stages_j: tuple[float, ...]


def measure_energy(
    backend: Backend,
    engine: Engine,
    *,
    meter: str,
    options: MeterOptions,
    report: Callable[[float], None],
) -> MeasuredEnergy | str:
    """Runs each stage for two seconds beside a meter; without a meter that works, why not."""
    readings: list[Reading] = []
    if meter == MODELLED:
        return "no meter was asked for"
    with Sampler(meter, options=options, deliver=readings.append) as sampler:
        deadline_s = time.monotonic() + FIRST_READING_TIMEOUT_S
        while not readings and sampler.may_read() and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        if not readings:
            return sampler.status().failure or "the meter gives no reading"
        idle_w = _mean_w(readings, lambda: time.sleep(_POLL_S))
        report(1 / (len(engine.stages) + 1))
        stages_j = []
        features = backend.feed(np.zeros((1, *engine.input.shape), engine.input.dtype))
        for stage in range(len(engine.stages)):
            stages_j.append(_stage_j(backend, stage, features, readings, idle_w))
            _, following = backend.run(stage, [features])
            features = following[0] if following else None
            report((stage + 2) / (len(engine.stages) + 1))
        status = sampler.status()
    if status.failure is not None:
        return status.failure
    return MeasuredEnergy(meter=status.name, idle_w=rounded(idle_w), stages_j=tuple(stages_j))


def _stage_j(
    backend: Backend, stage: int, features: object, readings: list[Reading], idle_w: float
) -> float:
    runs, started_s = 0, time.monotonic()

    def run() -> None:
        nonlocal runs
        backend.run(stage, [features])
        runs += 1

    busy_w = _mean_w(readings, run)
    each_s = (time.monotonic() - started_s) / runs
    return rounded(max(0.0, busy_w - idle_w) * each_s)


def _mean_w(readings: list[Reading], do: Callable[[], None]) -> float:
    """The mean power while something is done over and over, without the first moments."""
    started_s = time.monotonic()
    seen = list[Reading]()
    while time.monotonic() < started_s + SETTLING_S + WINDOW_S or not seen:
        do()
        seen = [reading for reading in readings if reading.time_s >= started_s + SETTLING_S]
        if not seen and time.monotonic() > started_s + FIRST_READING_TIMEOUT_S:
            return 0.0
    return fmean(reading.total_w for reading in seen)
