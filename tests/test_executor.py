"""The executor: stages, metrics, and bounds that are kept rather than found broken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.engine import Engine, InputSpec, Kind, Latency, Stage
from appliance.errors import EngineError
from appliance.executor import Executor
from appliance.messages import Request
from appliance.plan import Plan, StoppedBy, compile_plan
from appliance.policy import parse_policy
from appliance.task import Task
from tests.simulated import SimulatedBackend, SimulatedClock


def an_engine(*, name: str = "net", stage_times_s: Sequence[float] = (0.010,) * 4) -> Engine:
    accuracies = (0.5, 0.7, 0.8, 0.9)
    return Engine(
        name=name,
        kind=Kind.TENSOR,
        input=InputSpec(shape=(2,)),
        labels=("no", "yes"),
        stages=tuple(
            Stage(
                accuracy=accuracy,
                flops=1e6,
                energy_j=0.1,
                latency={1: Latency(p50_s=time_s, p95_s=time_s)},
            )
            for accuracy, time_s in zip(accuracies, stage_times_s, strict=True)
        ),
        folder=Path(name),
    )


def a_plan(engine: Engine, text: str, *, version: int = 1) -> Plan:
    source = f"tenant: gate\nversion: {version}\nengine: {engine.name}\n{text}"
    return compile_plan(parse_policy(source), engine)


def a_task(clock: SimulatedClock, plan: Plan, *, expires_s: float | None = None) -> Task:
    request = Request(
        id="r1",
        tenant="gate",
        stream=None,
        received_s=clock(),
        arrived_at_s=0.0,
        reply_topic="t",
        expires_s=expires_s,
    )
    return Task(request=request, plan=plan, features=np.zeros((1, 2), np.float32))


class Bench:
    """An executor with one engine on a simulated backend."""

    def __init__(
        self,
        *,
        stage_times_s: Sequence[float] = (0.010,) * 4,
        profiled_s: Sequence[float] = (0.010,) * 4,
        logits: Sequence[Sequence[float]] | None = None,
    ) -> None:
        self.clock = SimulatedClock()
        self.engine = an_engine(stage_times_s=profiled_s)
        self.backend = SimulatedBackend(self.clock, stage_times_s=stage_times_s, logits=logits)
        self.executor = Executor(self.clock)
        self.executor.add(self.engine, self.backend)

    def run(self, task: Task) -> Task:
        while task.stopped_by is None:
            self.executor.step(task)
        return task

    def answer(self, policy: str) -> Task:
        return self.run(a_task(self.clock, a_plan(self.engine, policy)))


def exit_of(task: Task) -> int:
    assert task.metrics is not None
    return task.metrics.exit


def test_the_metrics_at_an_exit_are_those_of_the_way_to_it() -> None:
    bench = Bench(logits=[[0.0, 2.0]] * 4)

    task = bench.answer("exit_when: exit >= 1")

    metrics = task.metrics
    assert metrics is not None
    probability = 1 / (1 + math.exp(-2.0))
    assert metrics.response_time == pytest.approx(0.020)
    assert metrics.next_response_time == pytest.approx(0.031)  # an estimate has a tenth of margin
    assert (metrics.energy, metrics.next_energy) == pytest.approx((0.2, 0.3))
    assert metrics.computation == 2e6
    assert (metrics.accuracy, metrics.exit) == (0.7, 1)
    assert metrics.confidence == pytest.approx(probability)
    assert metrics.margin == pytest.approx(2 * probability - 1)
    assert metrics.expected_accuracy == pytest.approx(probability)
    entropy = -probability * math.log(probability) - (1 - probability) * math.log(1 - probability)
    assert metrics.entropy == pytest.approx(entropy, rel=1e-5)


def test_without_conditions_it_runs_to_the_most_accurate_exit() -> None:
    task = Bench().answer("")

    assert (exit_of(task), task.stopped_by) == (3, StoppedBy.LAST_EXIT)


@pytest.mark.parametrize(("bound_ms", "exit_"), [(5, 0), (15, 0), (25, 1), (35, 2), (50, 3)])
def test_a_bound_on_response_time_stops_before_the_stage_that_would_break_it(
    bound_ms: int, exit_: int
) -> None:
    task = Bench().answer(f"bounds: {{response_time: {bound_ms}ms}}")

    assert exit_of(task) == exit_
    assert task.plan.unmet(task.metrics) == (("response_time",) if bound_ms == 5 else ())  # type: ignore[arg-type]


def test_time_in_the_queue_counts_against_the_bound() -> None:
    bench = Bench()
    task = a_task(bench.clock, a_plan(bench.engine, "bounds: {response_time: 35ms}"))

    bench.clock.advance(0.010)
    bench.run(task)

    assert exit_of(task) == 1
    assert task.queue_time_s == pytest.approx(0.010)


def test_a_messages_expiry_shortens_the_bound() -> None:
    bench = Bench()
    plan = a_plan(bench.engine, "bounds: {response_time: 1s}")

    task = bench.run(a_task(bench.clock, plan, expires_s=bench.clock() + 0.025))

    assert (exit_of(task), task.stopped_by) == (1, StoppedBy.RESPONSE_TIME)


def test_estimates_follow_a_machine_that_is_slower_than_the_profile() -> None:
    bench = Bench(stage_times_s=(0.030,) * 4)
    bench.executor.warm_up(bench.engine, runs=4)

    task = bench.answer("bounds: {response_time: 70ms}")

    assert exit_of(task) == 1
    assert task.plan.unmet(task.metrics) == ()  # type: ignore[arg-type]


def test_a_new_policy_takes_effect_before_the_next_stage() -> None:
    bench = Bench()
    task = a_task(bench.clock, a_plan(bench.engine, ""))
    bench.executor.step(task)

    bench.executor.plans = {"gate": a_plan(bench.engine, "exit_when: exit >= 1", version=2)}
    bench.run(task)

    assert exit_of(task) == 1
    assert task.plan.policy.version == 2


def test_a_task_ends_on_the_engine_it_came_for() -> None:
    bench = Bench()
    task = a_task(bench.clock, a_plan(bench.engine, "exit_when: exit >= 2"))
    bench.executor.step(task)

    bench.executor.plans = {"gate": a_plan(an_engine(name="other"), "exit_when: exit >= 0")}
    bench.run(task)

    assert exit_of(task) == 2


def test_a_condition_that_cannot_be_evaluated_stops_with_an_error() -> None:
    bench = Bench()
    stages = tuple(Stage(accuracy=0.5) for _ in range(4))
    unprofiled = Engine(
        name="net",
        kind=Kind.TENSOR,
        input=InputSpec(shape=(2,)),
        labels=(),
        stages=stages,
        folder=Path("net"),
    )

    bench.executor.add(unprofiled, bench.backend)

    task = bench.run(a_task(bench.clock, a_plan(unprofiled, "exit_when: {not: energy < 1J}")))

    assert (exit_of(task), task.stopped_by) == (0, StoppedBy.ERROR)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_stage_that_answers_with_no_number_is_an_engine_error(bad: float) -> None:
    bench = Bench(logits=[[0.0, bad]] * 4)

    with pytest.raises(EngineError, match="stage 0 of net"):
        bench.answer("")


class TwiceAnsweringBackend(SimulatedBackend):
    """Whatever it is asked, it gives an answer too many."""

    def run(
        self, stage: int, batch: Sequence[object]
    ) -> tuple[NDArray[np.float32], Sequence[object]]:
        logits, features = super().run(stage, batch)
        return np.concatenate([logits, logits[:1]]), features


def test_a_stage_that_does_not_answer_each_item_once_fails_for_its_tasks_alone() -> None:
    bench = Bench()
    other = an_engine(name="other")
    bench.executor.add(other, TwiceAnsweringBackend(bench.clock, stage_times_s=(0.010,) * 4))
    batch = [a_task(bench.clock, a_plan(other, "")) for _ in range(2)]

    decided = bench.executor.take(batch, bench.executor.run(batch, last=0))

    sentences = [str(decision) for _, decision in decided]
    assert len(sentences) == 2
    assert all("answered with 2 rows of logits" in sentence for sentence in sentences)


def test_an_engine_that_does_not_answer_each_item_once_is_found_out_as_it_is_warmed_up() -> None:
    bench = Bench()
    other = an_engine(name="other")
    bench.executor.add(other, TwiceAnsweringBackend(bench.clock, stage_times_s=(0.010,) * 4))

    with pytest.raises(EngineError, match="for a batch of 1"):
        bench.executor.warm_up(other, runs=1)
