"""Measures an engine on the machine where it will serve: accuracy, calibration, latency, energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.backends.protocol import Backend
from appliance.engine import Engine, Latency, Stage
from appliance.errors import ModellingError
from appliance.modelling.calibration import (
    Classes,
    Logits,
    expected_calibration_error,
    fit_temperature,
)
from appliance.modelling.datasets import Dataset, Example, Part, batches

WARM_UP_RUNS = 5
ANSWER_BATCH_SIZE = 16

_PUBLISHED_GMAC = np.array([0.812877056, 1.856489216, 3.33191757, 4.144599296])
_PUBLISHED_MJ = np.array([45.99, 99.31, 176.75, 243.55])
J_PER_FLOP = (
    float(_PUBLISHED_GMAC @ _PUBLISHED_MJ / (_PUBLISHED_GMAC @ _PUBLISHED_GMAC)) * 1e-12 / 2
)
"""What a floating-point operation costs on a Jetson Nano, about 28 pJ.

Least squares through the origin over what Dělen (doi 10.1145/3576842.3582375) published for the
four exits of its ResNet-50 there: multiply-adds, two operations each, and energy.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How an exit's confidence stood to its accuracy on the held-out frames, as fractions."""

    error_before: float
    error_after: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """An engine with all that was measured of it.

    `calibration` has an entry per exit; it is empty where there was nothing to calibrate by.
    """

    engine: Engine
    test_frames: int
    valid_frames: int
    calibration: tuple[Calibration, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What every exit said to labelled frames."""

    logits: tuple[Logits, ...]
    """Per exit, shape (frames, classes)."""
    classes: Classes

    def accuracy(self, exit_: int) -> float:
        return float((self.logits[exit_].argmax(axis=1) == self.classes).mean())


def profile(  # noqa: PLR0913 - a measurement states its conditions
    engine: Engine,
    backend: Backend,
    dataset: Dataset,
    *,
    batch_sizes: Sequence[int],
    runs: int,
    report: Callable[[str, float], None],
) -> Profile:
    """Measures an engine on an open backend.

    Accuracy comes from the test part, the temperatures from the validation part; where the dataset
    has none, the engine keeps the temperatures that it has. It keeps its energy too, and gets the
    modelled one where it has none. `report` is told what is being done, and which fraction of it
    is. Raises ModellingError where the dataset does not serve.
    """
    test_examples = dataset.examples(Part.TEST)
    if not test_examples:
        raise ModellingError("the dataset has no frames to test with: it needs the folder `test`")
    latencies = measure_latency(
        backend,
        engine,
        batches=batch_sizes,
        runs=runs,
        report=lambda done: report("latency", done),
    )
    test = answers(engine, backend, test_examples, report=lambda done: report("accuracy", done))
    valid_examples = dataset.examples(Part.VALID)
    temperatures = [stage.temperature for stage in engine.stages]
    calibration: tuple[Calibration, ...] = ()
    if valid_examples:
        valid = answers(
            engine, backend, valid_examples, report=lambda done: report("calibration", done)
        )
        temperatures = [_rounded(fit_temperature(logits, valid.classes)) for logits in valid.logits]
        calibration = tuple(
            _calibration(logits, test.classes, temperature)
            for logits, temperature in zip(test.logits, temperatures, strict=True)
        )
    stages = tuple(
        replace(
            stage,
            accuracy=_rounded(test.accuracy(number)),
            energy_j=stage.energy_j if stage.energy_j is not None else modelled_energy_j(stage),
            latency=latencies[number],
            temperature=temperatures[number],
        )
        for number, stage in enumerate(engine.stages)
    )
    return Profile(
        engine=replace(engine, stages=stages),
        test_frames=len(test_examples),
        valid_frames=len(valid_examples),
        calibration=calibration,
    )


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
            latencies[stage][size] = Latency(p50_s=_rounded(p50_s), p95_s=_rounded(p95_s))
        report(number / len(batches))
    return latencies


def modelled_energy_j(stage: Stage) -> float | None:
    """What a stage would cost on a Jetson Nano, in joules; None where its FLOPs are not known."""
    return None if stage.flops is None else _rounded(stage.flops * J_PER_FLOP)


def answers(
    engine: Engine,
    backend: Backend,
    examples: Sequence[Example],
    *,
    report: Callable[[float], None] = lambda _done: None,
) -> Answers:
    """What every exit of an engine says to labelled frames, decoded as the appliance does.

    Raises ModellingError for frames that cannot be decoded and for labels that the engine lacks.
    """
    logits: list[list[NDArray[np.float32]]] = [[] for _ in engine.stages]
    classes: list[Classes] = []
    for batch in batches(
        examples, ANSWER_BATCH_SIZE, labels=engine.labels, spec=engine.input, kind=engine.kind
    ):
        features = [backend.feed(frame[np.newaxis]) for frame in batch.inputs]
        for stage in range(len(engine.stages)):
            output, following = backend.run(stage, features)
            logits[stage].append(output)
            features = list(following)
        classes.append(batch.classes)
        report(ANSWER_BATCH_SIZE * len(classes) / len(examples))
    return Answers(
        logits=tuple(np.concatenate(parts) for parts in logits), classes=np.concatenate(classes)
    )


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


def _calibration(logits: Logits, classes: Classes, temperature: float) -> Calibration:
    return Calibration(
        error_before=expected_calibration_error(logits, classes, 1.0),
        error_after=expected_calibration_error(logits, classes, temperature),
    )


def _rounded(value: float) -> float:
    """Four digits: more than any of these measurements has."""
    return float(f"{value:.4g}")
