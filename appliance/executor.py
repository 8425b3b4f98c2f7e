"""Runs a task's next stage and asks its condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.agreement import ExitAnswer
from appliance.answer import Answer, read_answer
from appliance.backends.protocol import Backend, Features
from appliance.conditions import ExitMetrics
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.plan import Plan, StoppedBy, Wish
from appliance.stage_times import StageTimes
from appliance.task import Task
from appliance.tenancy import Tenancy

SPAN_ROOM = 2.0
"""How many times what stages back to back should take must fit into a bound: in between nobody can
answer from an exit that was passed by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOutput:
    """What the last of the stages that ran gave for each task of a batch.

    That is logits, shape (classes,), or why there are none; `features` holds what each takes on to
    the next stage, None where there is none.
    """

    first: int
    last: int
    answers: Sequence[NDArray[np.float32] | EngineError]
    features: Sequence[Features]
    started_s: float
    ended_s: float


class Executor:
    """Runs tasks one stage at a time on the backends that were added to it.

    `plans` is the immutable snapshot of the plans in force by tenant, replaced whole when a policy
    changes: a task takes up its tenant's new plan before its next stage. `clock` gives monotonic
    seconds, live or simulated. `tenancy` is told what the stages cost, and asked what a tenant
    may spend and which mode it is in. `read` makes an answer of logits and a temperature.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        tenancy: Tenancy | None = None,
        read: Callable[[NDArray[np.float32], float], Answer | None] = read_answer,
    ) -> None:
        self.plans: Mapping[str, Plan] = {}
        self.tenancy = Tenancy() if tenancy is None else tenancy
        self._clock = clock
        self._read = read
        self._backends: dict[int, Backend] = {}
        self._times: dict[int, StageTimes] = {}

    def add(self, engine: Engine, backend: Backend) -> None:
        """Takes an engine into service; its backend must be open in the thread that runs stages."""
        self._backends[id(engine)] = backend
        self._times[id(engine)] = StageTimes(engine)

    def remove(self, engine: Engine) -> None:
        """Takes an engine out of service; no task of it may be left."""
        del self._backends[id(engine)], self._times[id(engine)]

    def times(self, engine: Engine) -> StageTimes:
        """How long the stages of an engine in service take."""
        return self._times[id(engine)]

    def warm_up(self, engine: Engine, *, runs: int) -> None:
        """Runs an empty input through every stage, so that the estimates are this machine's own."""
        for _ in self.warming_up(engine, runs=runs):
            pass

    def warming_up(self, engine: Engine, *, runs: int) -> Iterator[int]:
        """Warms an engine up stage by stage, so that others' stages can run between; gives each."""
        for run in range(runs):
            for stage, started_s, ended_s in self._empty_run(engine):
                # The first run allocates, and tells nothing of those after it.
                if run > 0:
                    self.times(engine).observe(stage, ended_s - started_s)
                yield stage

    def exercise(self, engine: Engine, *, seconds: float) -> None:
        """Runs an empty input through the stages for a while, so that a meter sees their cost."""
        ends_s = self._clock() + seconds
        while self._clock() < ends_s:
            for stage, started_s, ended_s in self._empty_run(engine):
                self.tenancy.exercised(engine, stage, started_s, ended_s)

    def _empty_run(self, engine: Engine) -> Iterator[tuple[int, float, float]]:
        """Each stage as it runs on an empty input, with the moments of its start and end."""
        backend = self._backends[id(engine)]
        features = backend.feed(np.zeros((1, *engine.input.shape), engine.input.dtype))
        for stage in range(len(engine.stages)):
            started_s = self._clock()
            _, following = _run(backend, stage, stage, [features])
            yield stage, started_s, self._clock()
            features = following[0] if following else None

    def step(self, task: Task) -> None:
        """Runs the next stage of one task: afterwards `stopped_by` is set, or the task goes on.

        Raises EngineError where the stage fails or answers with what is no number.
        """
        ((_, decision),) = self.take([task], self.run([task], last=task.next_stage))
        if isinstance(decision, EngineError):
            raise decision
        if isinstance(decision, StoppedBy):
            task.stopped_by = decision

    def last_of_span(self, batch: Sequence[Task]) -> int:
        """Up to which stage tasks that wait for the same one run without a decision in between.

        It is the last stage before which none of them can stop, by its policy and with room in its
        bounds, where the backend gains by running there back to back; else the next stage alone.
        """
        engine, first = batch[0].plan.engine, batch[0].next_stage
        if not self._backends[id(engine)].enqueues:
            return first
        last = min(self._plan_in_force(task).first_answers[first] for task in batch)
        span_s = self.span_s(batch, last)
        return last if all(self._has_room(task, last, span_s) for task in batch) else first

    def span_s(self, batch: Sequence[Task], last: int) -> float:
        """A careful estimate of how long a batch takes from its next stage to the end of `last`."""
        times, first = self.times(batch[0].plan.engine), batch[0].next_stage
        return sum(times.careful_batch_s(s, len(batch)) for s in range(first, last + 1))

    def _has_room(self, task: Task, last: int, span_s: float) -> bool:
        """Whether nothing but its condition can stop a task before an exit.

        A budget can, and what every exit says to a sample is to be known.
        """
        now_s, policy = self._clock(), self._plan_in_force(task).policy
        if task.sample or self.tenancy.budgets.balance(policy, now_s) is not None:
            return False
        deadline_s = task.deadline_s
        if deadline_s is not None and now_s + SPAN_ROOM * span_s > deadline_s:
            return False
        if policy.bounds.energy is None:
            return True
        stages_j = self.tenancy.stage_energies_j(task.plan.engine)[task.next_stage : last + 1]
        spent_j = 0.0 if task.metrics is None else task.metrics.energy
        return (
            spent_j is not None
            and None not in stages_j
            and spent_j + sum(filter(None, stages_j)) <= policy.bounds.energy
        )

    def run(self, batch: Sequence[Task], *, last: int) -> StageOutput:
        """Runs tasks that wait for the same stage through it to `last`, and decides nothing yet.

        Where that fails for several, it is run for each alone, to tell which of them it fails for.
        """
        for task in batch:
            task.plan = self._plan_in_force(task)
        engine, first = batch[0].plan.engine, batch[0].next_stage
        backend = self._backends[id(engine)]
        started_s = self._clock()
        for task in batch:
            if task.started_s is None:
                task.started_s = started_s
        items = [backend.feed(task.features) if first == 0 else task.features for task in batch]
        answers, features = _run_each(backend, first, last, items)
        return StageOutput(
            first=first,
            last=last,
            answers=answers,
            features=features,
            started_s=started_s,
            ended_s=self._clock(),
        )

    def take(
        self, batch: Sequence[Task], output: StageOutput
    ) -> list[tuple[Task, StoppedBy | Wish | EngineError]]:
        """Takes in what stages gave: for each task why it stops, what it wants, or its failure.

        A task that was dealt with while they ran is charged for them, and left as it is, unless
        it is a sample: that goes on to the last exit, whatever its policy says.
        """
        if EngineError not in map(type, output.answers):
            self._observe(batch[0].plan.engine, output, size=len(batch))
        decided: list[tuple[Task, StoppedBy | Wish | EngineError]] = []
        for task, answer, features in zip(batch, output.answers, output.features, strict=True):
            self._charge(task, output, size=len(batch))
            is_over = task.closed and not task.sample
            task.features = None if is_over else features
            if is_over:
                continue
            decided.append((task, self._decision(task, answer, output)))
        return decided

    def _observe(self, engine: Engine, output: StageOutput, *, size: int) -> None:
        times, duration_s = self.times(engine), output.ended_s - output.started_s
        if output.first == output.last:
            times.observe(output.first, duration_s, size=size)
        else:
            times.observe_span(output.first, output.last, duration_s, size=size)

    def _charge(self, task: Task, output: StageOutput, *, size: int) -> None:
        """Charges a task for each stage that ran, for its part of the time."""
        starts_s, duration_s = output.started_s, output.ended_s - output.started_s
        if output.first < output.last:
            parts = self.times(task.plan.engine).parts(output.first, output.last, size=size)
            for stage, part in enumerate(parts[:-1], start=output.first):
                ends_s = starts_s + part * duration_s
                self.tenancy.charge(task, stage, starts_s, ends_s)
                starts_s = ends_s
        self.tenancy.charge(task, output.last, starts_s, output.ended_s)

    def _decision(
        self, task: Task, logits: NDArray[np.float32] | EngineError, output: StageOutput
    ) -> StoppedBy | Wish | EngineError:
        if isinstance(logits, EngineError):
            return logits
        engine, stage = task.plan.engine, output.last
        answer = self._read(logits, engine.stages[stage].temperature)
        if answer is None:
            return EngineError(f"stage {stage} of {engine.name} answered with NaN or infinity")
        return self._decide(task, stage, answer, output.ended_s)

    def _decide(self, task: Task, stage: int, answer: Answer, now_s: float) -> StoppedBy | Wish:
        engine = task.plan.engine
        stage_times_s = self.times(engine).careful_s
        energies_j = self.tenancy.stage_energies_j(engine)
        energy_j, task.energy_source = self.tenancy.energy.of(task.runs)
        task.probabilities = answer.probabilities
        task.metrics = _metrics(
            engine,
            stage,
            answer=answer,
            response_time_s=now_s - task.request.received_s,
            stage_times_s=stage_times_s,
            energy_j=energy_j,
            stage_energies_j=energies_j,
        )
        if task.sample:
            index = int(answer.probabilities.argmax())
            task.trajectory.append(ExitAnswer(index, answer.expected_accuracy))
        if task.closed:
            return StoppedBy.LAST_EXIT if stage == engine.last_exit else Wish(stage + 1)
        if stage == engine.last_exit:
            task.agrees = None
            return StoppedBy.LAST_EXIT
        leave = self.tenancy.steering.leave(task, stage, answer.expected_accuracy)
        task.agrees = leave.agrees
        decision = task.plan.decide(
            task.metrics,
            stage_times_s=stage_times_s,
            stage_energies_j=energies_j,
            response_time_bound_s=task.response_time_bound_s,
            leave=leave,
        )
        if isinstance(decision, Wish):
            task.wish = decision
            stop = self.tenancy.budget_stop(task.plan, task.metrics, energies_j, now_s)
            return decision if stop is None else stop
        return decision

    def _plan_in_force(self, task: Task) -> Plan:
        """Its tenant's plan of this moment, in the mode that it is in."""
        plan = self.plans.get(task.request.tenant)
        # A frame was decoded for one engine, and its features are that engine's: a task ends on
        # the engine it came for, even where the tenant has moved to another or was removed.
        if plan is None or plan.engine is not task.plan.engine:
            return task.plan
        return self.tenancy.in_mode(plan)


def _run_each(
    backend: Backend, first: int, last: int, items: Sequence[Features]
) -> tuple[Sequence[NDArray[np.float32] | EngineError], Sequence[Features]]:
    try:
        logits, features = _run(backend, first, last, items)
    except Exception as error:  # noqa: BLE001 - a runtime raises what it likes; other tasks go on
        if len(items) == 1:
            if not isinstance(error, EngineError):
                error = EngineError(f"{_named(first, last)} failed: {error!r}")
            return [error], [None]
    else:
        return list(logits), features or [None] * len(items)
    alone = [_run_each(backend, first, last, [item]) for item in items]
    return [answers[0] for answers, _ in alone], [features[0] for _, features in alone]


def _run(
    backend: Backend, first: int, last: int, items: Sequence[Features]
) -> tuple[NDArray[np.float32], Sequence[Features]]:
    if first == last:
        logits, features = backend.run(first, items)
    else:
        logits, features = backend.run_through(first, last, items)
    if len(logits) != len(items) or len(features) not in {0, len(items)}:
        raise EngineError(
            f"{_named(first, last)} answered with {len(logits)} rows of logits and the features of"
            f" {len(features)} for a batch of {len(items)}: export it with one of each an item"
        )
    return logits, features


def _named(first: int, last: int) -> str:
    return f"stage {first}" if first == last else f"stages {first} to {last}"


def _metrics(  # noqa: PLR0913 - an exit's metrics come from everywhere
    engine: Engine,
    exit_: int,
    *,
    answer: Answer,
    response_time_s: float,
    stage_times_s: Sequence[float],
    energy_j: float | None,
    stage_energies_j: Sequence[float | None],
) -> ExitMetrics:
    last = exit_ == engine.last_exit
    next_j = None if last else stage_energies_j[exit_ + 1]
    return ExitMetrics(
        response_time=response_time_s,
        confidence=answer.confidence,
        accuracy=engine.stages[exit_].accuracy,
        energy=energy_j,
        computation=engine.flops_to[exit_],
        exit=exit_,
        entropy=answer.entropy,
        margin=answer.margin,
        expected_accuracy=answer.expected_accuracy,
        next_response_time=None if last else response_time_s + stage_times_s[exit_ + 1],
        next_energy=None if energy_j is None or next_j is None else energy_j + next_j,
    )
