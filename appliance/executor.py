"""Runs a task's next stage and asks its condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from appliance.backends.protocol import Backend
from appliance.conditions import ExitMetrics
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.plan import Plan
from appliance.stage_times import StageTimes
from appliance.task import Task
from appliance.tenancy import Tenancy


class Executor:
    """Runs tasks one stage at a time on the backends that were added to it.

    `plans` is the immutable snapshot of the plans in force by tenant, replaced whole when a policy
    changes: a task takes up its tenant's new plan before its next stage. `clock` gives monotonic
    seconds, live or simulated. `tenancy` is told what the stages cost, and asked what a tenant
    may spend and which mode it is in.
    """

    def __init__(self, clock: Callable[[], float], tenancy: Tenancy | None = None) -> None:
        self.plans: Mapping[str, Plan] = {}
        self.tenancy = Tenancy() if tenancy is None else tenancy
        self._clock = clock
        self._backends: dict[str, Backend] = {}
        self._times: dict[str, StageTimes] = {}

    def add(self, engine: Engine, backend: Backend) -> None:
        """Takes an engine into service; its backend must be open in the thread that calls step."""
        self._backends[engine.name] = backend
        self._times[engine.name] = StageTimes(engine)

    def stage_times_s(self, engine: Engine) -> tuple[float, ...]:
        """The estimated time of each stage, in seconds, as they stand now."""
        return tuple(self._times[engine.name].estimates_s)

    def warm_up(self, engine: Engine, *, runs: int) -> None:
        """Runs an empty input through every stage, so that the estimates are this machine's own."""
        backend, times = self._backends[engine.name], self._times[engine.name]
        empty = np.zeros((1, *engine.input.shape), engine.input.dtype)
        for run in range(runs):
            features = backend.feed(empty)
            for stage in range(len(engine.stages)):
                started_s = self._clock()
                _, following = backend.run(stage, [features])
                # The first run allocates, and tells nothing of those after it.
                if run > 0:
                    times.observe(stage, self._clock() - started_s)
                features = following[0] if following else None

    def exercise(self, engine: Engine, *, seconds: float) -> None:
        """Runs an empty input through the stages for a while, so that a meter sees their cost."""
        backend = self._backends[engine.name]
        empty = np.zeros((1, *engine.input.shape), engine.input.dtype)
        ends_s = self._clock() + seconds
        while self._clock() < ends_s:
            features = backend.feed(empty)
            for stage in range(len(engine.stages)):
                started_s = self._clock()
                _, following = backend.run(stage, [features])
                self.tenancy.exercised(engine, stage, started_s, self._clock())
                features = following[0] if following else None

    def step(self, task: Task) -> None:
        """Runs the next stage and decides: afterwards `stopped_by` is set, or the task goes on.

        Raises EngineError where the stage fails or answers with what is no number.
        """
        self._take_up_plan(task)
        engine, stage = task.plan.engine, task.next_stage
        times = self._times[engine.name]
        started_s = self._clock()
        if task.started_s is None:
            task.started_s = started_s
        backend = self._backends[engine.name]
        features = backend.feed(task.features) if stage == 0 else task.features
        logits, following = backend.run(stage, [features])
        ended_s = self._clock()
        times.observe(stage, ended_s - started_s)
        self.tenancy.charge(task, stage, started_s, ended_s)

        answer = logits[0]
        if not np.isfinite(answer).all():
            raise EngineError(f"stage {stage} of {engine.name} answered with NaN or infinity")
        task.features = following[0] if following else None
        task.probabilities = softmax(answer)
        energies_j = self.tenancy.stage_energies_j(engine)
        energy_j, task.energy_source = self.tenancy.energy.of(task.runs)
        task.metrics = _metrics(
            engine,
            stage,
            logits=answer,
            probabilities=task.probabilities,
            response_time_s=ended_s - task.request.received_s,
            stage_times_s=times.estimates_s,
            energy_j=energy_j,
            stage_energies_j=energies_j,
        )
        task.stopped_by = task.plan.stop(
            task.metrics,
            stage_times_s=times.estimates_s,
            stage_energies_j=energies_j,
            response_time_bound_s=task.response_time_bound_s,
        ) or self.tenancy.budget_stop(task.plan, task.metrics, energies_j, ended_s)
        if task.stopped_by is not None:
            self.tenancy.answered(task, task.metrics, ended_s)

    def _take_up_plan(self, task: Task) -> None:
        plan = self.plans.get(task.request.tenant)
        # A frame was decoded for one engine, and its features are that engine's: a task ends on
        # the engine it came for, even where the tenant has moved to another or was removed.
        if plan is not None and plan.engine is task.plan.engine:
            task.plan = self.tenancy.in_mode(plan)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distribution over the classes, shape (classes,), that finite logits stand for."""
    exponentials: NDArray[np.float32] = np.exp(logits - logits.max())
    exponentials /= exponentials.sum()
    return exponentials


def _metrics(  # noqa: PLR0913 - an exit's metrics come from everywhere
    engine: Engine,
    exit_: int,
    *,
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    response_time_s: float,
    stage_times_s: list[float],
    energy_j: float | None,
    stage_energies_j: list[float | None],
) -> ExitMetrics:
    stage = engine.stages[exit_]
    last = exit_ == engine.last_exit
    next_j = None if last else stage_energies_j[exit_ + 1]
    confidence, runner_up = _two_largest(probabilities)
    return ExitMetrics(
        response_time=response_time_s,
        confidence=confidence,
        accuracy=stage.accuracy,
        energy=energy_j,
        computation=engine.flops_to[exit_],
        exit=exit_,
        entropy=_entropy(probabilities),
        margin=confidence - runner_up,
        expected_accuracy=float(softmax(logits / stage.temperature).max()),
        next_response_time=None if last else response_time_s + stage_times_s[exit_ + 1],
        next_energy=None if energy_j is None or next_j is None else energy_j + next_j,
    )


def _two_largest(probabilities: NDArray[np.float32]) -> tuple[float, float]:
    if len(probabilities) == 1:
        return float(probabilities[0]), 0.0
    runner_up, confidence = np.partition(probabilities, -2)[-2:].tolist()
    return confidence, runner_up


def _entropy(probabilities: NDArray[np.float32]) -> float:
    # 0 * log 0 is 0 in the limit; the smallest float keeps log from minus infinity.
    floored = np.maximum(probabilities, np.finfo(np.float32).tiny)
    return -float(probabilities @ np.log(floored))
