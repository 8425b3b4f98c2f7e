"""Measures an engine on the machine where it will serve: accuracy, calibration, latency, energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from appliance.backends.protocol import Backend
from appliance.engine import CalibrationError, Engine, Latency, Stage
from appliance.errors import ModellingError
from appliance.modelling.datasets import Dataset, Part
from appliance.modelling.profiling.answers import Answers, answers
from appliance.modelling.profiling.calibration import (
    Classes,
    Logits,
    expected_calibration_error,
    fit_temperature,
)
from appliance.modelling.profiling.energy import MeasuredEnergy
from appliance.modelling.profiling.figures import rounded
from appliance.modelling.profiling.latency import measure_latency
from appliance.modelling.profiling.thresholds import (
    Goal,
    Outcome,
    Recording,
    record,
    suggest,
    table,
)

_PUBLISHED_GMAC = np.array([0.812877056, 1.856489216, 3.33191757, 4.144599296])
_PUBLISHED_MJ = np.array([45.99, 99.31, 176.75, 243.55])
J_PER_FLOP = (
    float(_PUBLISHED_GMAC @ _PUBLISHED_MJ / (_PUBLISHED_GMAC @ _PUBLISHED_GMAC)) * 1e-12 / 2
)
"""What a floating-point operation costs on a Jetson Nano, about 28 pJ.

Least squares through the origin over what Dělen (doi 10.1145/3576842.3582375) published for the
four exits of its ResNet-50 there: multiply-adds, two operations each, and energy.
"""

FEW_FRAMES = 200
"""So few leave an accuracy uncertain by percents."""
FEWEST_TO_HALVE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """An engine with all that was measured of it."""

    engine: Engine
    tested: Recording
    validated: Recording
    """What the manifest tells, and thresholds are found by; as `tested` where a part is missing."""
    test_frames: int
    valid_frames: int
    energy: MeasuredEnergy | None = None
    """What the stages' energies were measured by, if a meter worked."""

    @property
    def held_out(self) -> bool:
        """Whether it was tested by other frames than it was calibrated by."""
        return self.test_frames > 0 and self.valid_frames > 0

    @property
    def judging_part(self) -> str:
        """The frames that the manifest's accuracies are of."""
        return "validation" if self.valid_frames else "test"

    def test_accuracy(self, exit_: int) -> float | None:
        """What an exit comes to on the test frames, None without any."""
        return rounded(float(self.tested.right[exit_].mean())) if self.test_frames else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """Thresholds that keep a goal on the validation frames, and what they come to on the others."""

    goal: str
    found: Outcome
    tested: Outcome
    final_accuracy: float
    """Of the last exit on the frames that test."""
    final_latency_s: float

    @property
    def latency_cut(self) -> float:
        """The fraction of the time to the last exit that leaving early saves."""
        return 1.0 - self.tested.latency_s / self.final_latency_s


def profile(  # noqa: PLR0913 - a measurement states its conditions
    engine: Engine,
    backend: Backend,
    dataset: Dataset,
    *,
    batch_sizes: Sequence[int],
    runs: int,
    report: Callable[[str, float], None],
    energy: MeasuredEnergy | None = None,
) -> Profile:
    """Measures an engine on an open backend.

    Accuracy, temperatures and the table of thresholds come from the validation part, calibration
    errors from the test part. Without a test part the validation part serves for both; without a
    validation part the test part does, and the engine keeps the temperatures that it has. Where no
    `energy` was measured, what the engine has stays, and is modelled from FLOPs where it has none.
    `report` is told what is being done, and which fraction of it is. Raises ModellingError where
    the dataset does not serve.
    """
    _require_kind(engine, dataset)
    valid_examples, test_examples = dataset.examples(Part.VALID), dataset.examples(Part.TEST)
    if not valid_examples and not test_examples:
        raise ModellingError(
            "the dataset has no frames to test with: it needs the part `test`, or `valid`"
        )
    latencies = measure_latency(
        backend,
        engine,
        batches=batch_sizes,
        runs=runs,
        report=lambda done: report("latency", done),
    )
    tested = answers(
        engine,
        backend,
        test_examples or valid_examples,
        report=lambda done: report("accuracy", done),
    )
    validated = tested
    if valid_examples and test_examples:
        validated = answers(
            engine, backend, valid_examples, report=lambda done: report("calibration", done)
        )
    report("calibration", 1.0)
    fitted = _fitted(engine, validated) if valid_examples else engine
    measured = _with_answers(fitted, latencies, tested=tested, validated=validated)
    measured = _with_energy(measured, energy)
    recording = record(measured, validated, min(batch_sizes))
    return Profile(
        engine=replace(measured, thresholds=table(recording)),
        tested=record(measured, tested, min(batch_sizes)),
        validated=recording,
        test_frames=len(test_examples),
        valid_frames=len(valid_examples),
        energy=energy,
    )


def suggest_thresholds(profile: Profile, text: str, goal: Goal) -> Suggestion:
    """The thresholds with the lowest mean latency that keep a goal; dominated exits have none.

    They are found on the validation frames and judged on the test frames. Where these are the
    same frames, one half of them, drawn by a fixed seed, finds, and the other judges. Raises
    ModellingError where the goal is out of reach.
    """
    validated, tested = profile.validated, profile.tested
    if not profile.held_out:
        if tested.frames < FEWEST_TO_HALVE:
            raise ModellingError(
                "one frame cannot both find thresholds and judge them: name a dataset with more"
            )
        order = np.random.default_rng(0).permutation(tested.frames)
        half = len(order) // 2
        validated, tested = tested.of(order[:half]), tested.of(order[half:])
    found = suggest(validated, goal, unused=profile.engine.dominated_exits)
    return Suggestion(
        goal=text,
        found=found,
        tested=tested.leave(found.thresholds),
        final_accuracy=tested.final_accuracy,
        final_latency_s=float(tested.latency_s[-1]),
    )


def modelled_energy_j(stage: Stage) -> float | None:
    """What a stage would cost on a Jetson Nano, in joules; None where its FLOPs are not known."""
    return None if stage.flops is None else rounded(stage.flops * J_PER_FLOP)


def _require_kind(engine: Engine, dataset: Dataset) -> None:
    if dataset.kind is not engine.kind:
        raise ModellingError(
            f"{engine.name} takes {engine.kind.value} frames, but the dataset holds"
            f" {dataset.kind.value} frames: name another dataset"
        )


def _fitted(engine: Engine, validated: Answers) -> Engine:
    """The engine with the temperatures that calibrate its exits on these frames."""
    stages = zip(engine.stages, validated.logits, strict=True)
    return replace(
        engine,
        stages=tuple(
            replace(stage, temperature=rounded(fit_temperature(logits, validated.classes)))
            for stage, logits in stages
        ),
    )


def _with_answers(
    engine: Engine,
    latencies: Sequence[Mapping[int, Latency]],
    *,
    tested: Answers,
    validated: Answers,
) -> Engine:
    """The engine with how long its stages take, and how good its exits are."""
    return replace(
        engine,
        stages=tuple(
            replace(
                stage,
                accuracy=rounded(validated.accuracy(number)),
                latency=latencies[number],
                calibration_error=_calibration_error(
                    tested.logits[number], tested.classes, stage.temperature
                ),
            )
            for number, stage in enumerate(engine.stages)
        ),
    )


def _with_energy(engine: Engine, energy: MeasuredEnergy | None) -> Engine:
    """The engine with what its stages cost: all measured, or all that is lacking modelled."""
    if energy is not None:
        stages_j: Sequence[float | None] = energy.stages_j
        source = "measured"
    elif all(stage.energy_j is not None for stage in engine.stages):
        return engine
    else:
        stages_j = [
            modelled_energy_j(stage) if stage.energy_j is None else stage.energy_j
            for stage in engine.stages
        ]
        source = "modelled"
    stages = zip(engine.stages, stages_j, strict=True)
    return replace(
        engine,
        energy_source=source,
        stages=tuple(replace(stage, energy_j=joules) for stage, joules in stages),
    )


def _calibration_error(logits: Logits, classes: Classes, temperature: float) -> CalibrationError:
    return CalibrationError(
        before=rounded(expected_calibration_error(logits, classes, 1.0)),
        after=rounded(expected_calibration_error(logits, classes, temperature)),
    )
