"""Stages that run back to back where nothing can be decided in between."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.dispatcher import Dispatcher
from appliance.errors import Code, EngineError
from appliance.executor import Executor
from appliance.task import Task
from tests.factories import a_plan, a_request, an_engine
from tests.simulated import SimulatedBackend, SimulatedClock


class Bench:
    """A dispatcher with one engine whose backend gains by running stages back to back."""

    def __init__(self, *, enqueues: bool = True) -> None:
        self.clock = SimulatedClock()
        self.engine = an_engine()
        self.backend = SimulatedBackend(self.clock, stage_times_s=(0.010,) * 4, enqueues=enqueues)
        self.finished: list[Task] = []
        self.rejected: list[Code] = []
        self.failures: list[EngineError] = []
        self.executor = Executor(self.clock)
        self.executor.add(self.engine, self.backend)
        self.dispatcher = Dispatcher(
            executor=self.executor,
            clock=self.clock,
            finished=self.finished.append,
            rejected=lambda _task, code, _detail: self.rejected.append(code),
            unaffordable=lambda _task, _balance: self.rejected.append(Code.TOO_MANY),
            failed=lambda _engine, error: self.failures.append(error),
        )

    def submit(self, policy: str, *, tenant: str = "gate") -> Task:
        plan = a_plan(policy, engine=self.engine, tenant=tenant)
        frame = np.zeros((1, *self.engine.input.shape), np.float32)
        request = a_request(tenant=tenant, received_s=self.clock())
        task = Task(request=request, plan=plan, features=frame)
        self.dispatcher.submit(task)
        return task

    def run(self) -> None:
        while batch := self.dispatcher.decide():
            self.dispatcher.take(batch, self.dispatcher.run(batch))

    def answer(self, policy: str) -> Task:
        task = self.submit(policy)
        self.run()
        return task


def test_stages_whose_exits_are_passed_by_run_back_to_back() -> None:
    bench = Bench()

    task = bench.answer("exit_when: exit >= 2")

    assert bench.backend.spans == [(0, 2)]
    assert (task.answered_at, bench.backend.ran) == (2, [0, 1, 2])


def test_a_backend_that_gains_nothing_runs_stage_by_stage() -> None:
    bench = Bench(enqueues=False)

    task = bench.answer("exit_when: exit >= 2")

    assert (task.answered_at, bench.backend.spans) == (2, [])


@pytest.mark.parametrize(
    "policy",
    [
        "exit_when: confidence >= 0.9",
        # What is left of the bound would not be enough, should a stage take longer.
        "exit_when: exit >= 2\nbounds: {response_time: 50ms}",
        "exit_when: exit >= 2\nbounds: {energy: 100mJ}",
        "exit_when: exit >= 2\nbudget: {energy: 100J, per: 1h}",
        "bounds: {agreement: 99%}",
    ],
)
def test_where_a_task_may_stop_in_between_it_runs_stage_by_stage(policy: str) -> None:
    bench = Bench()

    bench.answer(policy)

    assert bench.backend.spans == []


def test_with_room_in_its_bounds_a_task_runs_through() -> None:
    bench = Bench()

    bench.answer("exit_when: exit >= 2\nbounds: {response_time: 100ms, energy: 1J}")

    assert bench.backend.spans == [(0, 2)]


def test_where_another_waits_it_is_decided_after_every_stage() -> None:
    bench = Bench()

    bench.submit("exit_when: exit >= 2")
    bench.submit("exit_when: exit >= 2\nbounds: {response_time: 1s}", tenant="door")
    bench.run()

    # Only the last stages of whoever is alone by then.
    assert all(first > 0 for first, _ in bench.backend.spans)
    assert len(bench.finished) == 2


def test_whoever_could_not_wait_for_the_end_is_expected() -> None:
    bench = Bench()
    for _ in range(10):
        bench.clock.advance(0.05)
        bench.submit("exit_when: exit >= 0\nbounds: {response_time: 30ms}", tenant="door")
        bench.run()

    bench.answer("exit_when: exit >= 2")

    assert bench.backend.spans == []


def test_each_stage_of_a_span_is_charged_its_part() -> None:
    bench = Bench()

    task = bench.answer("exit_when: exit >= 2")

    began_s = task.request.received_s
    assert [(run.started_s - began_s, run.ended_s - began_s) for run in task.runs] == [
        pytest.approx((0.00, 0.01)),
        pytest.approx((0.01, 0.02)),
        pytest.approx((0.02, 0.03)),
    ]
    assert task.metrics is not None
    assert task.metrics.energy == pytest.approx(bench.engine.energy_to_j[2])


def test_a_span_that_fails_rejects_its_task_and_says_which_stages() -> None:
    bench = Bench()
    bench.backend.fails_at, bench.backend.failure = 1, RuntimeError("out of memory")

    bench.answer("exit_when: exit >= 2")

    assert bench.rejected == [Code.ENGINE_FAILED]
    assert str(bench.failures[0]).startswith("stages 0 to 2 failed")
