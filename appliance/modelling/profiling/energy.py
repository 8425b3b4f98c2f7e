"""What the stages of an engine cost in joules, by a meter that sees this machine at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from appliance.backends.protocol import Backend
from appliance.engine import Engine
from appliance.errors import MeterError
from appliance.modelling.profiling.figures import rounded
from appliance.power.meters import MeterOptions
from appliance.power.protocol import STALL_S, Reading
from appliance.power.sampler import Sampler

WINDOW_S = 2.0
"""How long a stage is repeated, and how long nothing is done: some twenty readings."""
SETTLE_S = 0.25
"""A meter shows the mean of the last moments, which are to be those of the same work."""
FIRST_READING_S = 5.0
NAP_S = 0.01
LEAST_DEVIATIONS, LEAST_FRACTION = 2.0, 0.01
"""How far a stage's power must be above the idle power: deviations of it, and a part of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredEnergy:
    """What a meter saw of an engine at work."""

    meter: str
    total_of: tuple[str, ...]
    """The rails whose sum was taken."""
    idle_w: float
    """What the machine takes with no stage running; it is not in the stages' energies."""
    stages_j: tuple[float, ...]
    """What one run of each stage costs above that, for one frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """Something done over and over, and the power meanwhile."""

    duration_s: float
    times: int
    mean_w: float
    deviation_w: float


def measure_energy(  # noqa: PLR0913 - a measurement states its conditions
    backend: Backend,
    engine: Engine,
    *,
    meter: str,
    options: MeterOptions,
    window_s: float = WINDOW_S,
    report: Callable[[float], None] = lambda _done: None,
) -> MeasuredEnergy:
    """Repeats each stage on an open backend while a meter is read, with noise for a frame.

    `meter` is one of METERS, or `auto`. `report` is told which fraction is done. Raises MeterError
    where no meter works, and where it does not see the stages at work, as one of another device.
    """
    readings: list[Reading] = []
    with Sampler(meter, options=options, deliver=readings.append) as sampler:
        watch = _Watch(sampler, readings, window_s=window_s, clock=options.clock)
        watch.wait_for_first()
        idle = watch.over(partial(time.sleep, NAP_S))
        stages_j = []
        noise = np.random.default_rng(0).random((1, *engine.input.shape))
        features: Sequence[object] = [backend.feed(noise.astype(engine.input.dtype))]
        for stage in range(len(engine.stages)):
            report((stage + 1) / (len(engine.stages) + 1))
            work = watch.over(partial(backend.run, stage, features))
            above_w = work.mean_w - idle.mean_w
            if above_w <= LEAST_DEVIATIONS * idle.deviation_w + LEAST_FRACTION * idle.mean_w:
                raise MeterError(
                    f"{sampler.status().name} shows {work.mean_w:.3g} W while stage {stage} runs"
                    f" and {idle.mean_w:.3g} W while none does: it does not see them"
                )
            stages_j.append(rounded(above_w * work.duration_s / work.times))
            _, features = backend.run(stage, features)
        report(1.0)
        return MeasuredEnergy(
            meter=sampler.status().name,
            total_of=readings[-1].total_of,
            idle_w=rounded(idle.mean_w),
            stages_j=tuple(stages_j),
        )


class _Watch:
    """Reads the power while something is done. `readings` grows in the sampler's thread."""

    def __init__(
        self,
        sampler: Sampler,
        readings: Sequence[Reading],
        *,
        window_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._sampler = sampler
        self._readings = readings
        self._window_s = window_s
        self._clock = clock

    def wait_for_first(self) -> None:
        """Returns when the meter has given a reading. Raises MeterError where it gives none."""
        deadline_s = self._clock() + FIRST_READING_S
        while not self._readings and self._sampler.may_read() and self._clock() < deadline_s:
            time.sleep(NAP_S)
        if not self._readings:
            raise MeterError(self._sampler.status().failure or "no meter is to be read")

    def over(self, action: Callable[[], object]) -> _Window:
        """Does something for a window, and goes on until the meter has seen the whole of it."""
        self._repeat(action, SETTLE_S)
        start_s = self._clock()
        times = self._repeat(action, self._window_s)
        end_s = self._clock()
        deadline_s = end_s + STALL_S
        while self._readings[-1].time_s < end_s:
            if self._clock() > deadline_s:
                raise MeterError(self._sampler.status().failure or "the meter fell silent")
            action()
        mean_w, deviation_w = power_between(list(self._readings), start_s, end_s)
        return _Window(
            duration_s=end_s - start_s, times=times, mean_w=mean_w, deviation_w=deviation_w
        )

    def _repeat(self, action: Callable[[], object], duration_s: float) -> int:
        end_s, times = self._clock() + duration_s, 0
        while self._clock() < end_s:
            action()
            times += 1
        return times


def power_between(readings: Sequence[Reading], start_s: float, end_s: float) -> tuple[float, float]:
    """The mean power between two moments and its standard deviation, in watts.

    Readings are joined by straight lines, also to the moments at the edges. Raises MeterError
    where a moment has no reading near it, or where the rails of the total change.
    """
    first = max((n for n, r in enumerate(readings) if r.time_s <= start_s), default=0)
    last = next((n for n, r in enumerate(readings) if r.time_s >= end_s), len(readings) - 1)
    near = readings[first : last + 1]
    times_s = np.array([reading.time_s for reading in near])
    if times_s[0] > start_s or times_s[-1] < end_s or np.diff(times_s).max() > STALL_S:
        raise MeterError("the meter left out a part of the measurement")
    if len({reading.total_of for reading in near}) > 1:
        raise MeterError("the meter's rails changed during the measurement")
    watts = np.array([reading.total_w for reading in near])
    moments_s = np.concatenate(([start_s], times_s[1:-1], [end_s]))
    powers_w = np.interp(moments_s, times_s, watts)
    energy_j = float((powers_w[1:] + powers_w[:-1]) @ np.diff(moments_s)) / 2
    return energy_j / (end_s - start_s), float(watts.std())
