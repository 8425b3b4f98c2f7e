"""What a dispatcher tells of engines: which of them still have tasks, and whose stages raise."""

from __future__ import annotations

import numpy as np

from appliance.dispatcher import Dispatcher
from appliance.engine import Engine
from appliance.errors import Code, EngineError
from appliance.executor import Executor
from appliance.plan import Plan
from appliance.task import Task
from tests.factories import a_plan, a_request, an_engine
from tests.simulated import SimulatedBackend, SimulatedClock


class Bench:
    """A dispatcher with one engine on a simulated backend."""

    def __init__(self, *, enqueues: bool = False) -> None:
        self.clock = SimulatedClock()
        self.engine = an_engine()
        self.backend = SimulatedBackend(self.clock, stage_times_s=(0.010,) * 4, enqueues=enqueues)
        self.finished: list[Task] = []
        self.rejected: list[Code] = []
        self.failures: list[tuple[Engine, EngineError]] = []
        executor = Executor(self.clock)
        executor.add(self.engine, self.backend)
        self.dispatcher = Dispatcher(
            executor=executor,
            clock=self.clock,
            finished=self.finished.append,
            rejected=lambda _task, code, _detail: self.rejected.append(code),
            unaffordable=lambda _task, _balance: self.rejected.append(Code.TOO_MANY),
            failed=lambda engine, error: self.failures.append((engine, error)),
        )

    def submit(self, *, sample: bool = False, policy: str = "exit_when: exit >= 0") -> Task:
        plan: Plan = a_plan(policy, engine=self.engine)
        frame = np.zeros((1, *self.engine.input.shape), np.float32)
        request = a_request(received_s=self.clock())
        task = Task(request=request, plan=plan, features=frame)
        self.dispatcher.submit(task)
        task.sample = sample
        return task

    def turn(self) -> int:
        """Runs what is next; how many tasks were in it."""
        batch = self.dispatcher.decide()
        if batch:
            self.dispatcher.take(batch, self.dispatcher.run(batch))
        return len(batch)

    def has_tasks(self) -> bool:
        return self.dispatcher.has_tasks_of(self.engine)


def test_an_engine_has_tasks_until_the_last_of_them_is_answered() -> None:
    bench = Bench()

    told = [bench.has_tasks()]
    bench.submit()
    bench.submit()
    told.append(bench.has_tasks())
    bench.turn()
    told.append(bench.has_tasks())
    bench.turn()
    told.append(bench.has_tasks())

    assert told == [False, True, True, False]


def test_an_engine_has_tasks_while_a_sample_is_still_to_run_on() -> None:
    bench = Bench()

    bench.submit(sample=True)
    bench.turn()
    answered = len(bench.finished)
    still_there = bench.has_tasks()
    while bench.turn():
        pass

    assert (answered, still_there) == (1, True)
    assert bench.backend.ran == [0, 1, 2, 3]
    assert not bench.has_tasks()


def test_a_sample_whose_stage_raises_is_let_go() -> None:
    bench = Bench()

    bench.submit(sample=True)
    bench.turn()
    bench.backend.fails_at = 1
    bench.turn()

    assert bench.turn() == 0
    assert not bench.has_tasks()
    assert len(bench.finished) == 1
    assert bench.rejected == []


def test_a_stage_that_raises_is_told_of_with_its_engine() -> None:
    bench = Bench()

    bench.backend.fails_at = 0
    bench.submit()
    bench.turn()

    assert [engine is bench.engine for engine, _ in bench.failures] == [True]
    assert bench.rejected == [Code.ENGINE_FAILED]
    assert not bench.has_tasks()


def test_an_answer_that_is_no_number_rejects_its_task_and_is_no_failure_of_the_engine() -> None:
    bench = Bench()

    bench.backend.logits[0] = [float("nan"), 0.0]
    bench.submit()
    bench.turn()

    assert bench.rejected == [Code.ENGINE_FAILED]
    assert bench.failures == []


def test_an_engine_that_is_taken_out_is_asked_no_more() -> None:
    bench = Bench()
    bench.submit()
    bench.turn()

    bench.dispatcher.remove(bench.engine)

    assert bench.dispatcher.decide() == []


def test_a_run_of_several_stages_that_hangs_is_named_by_all_of_them() -> None:
    bench = Bench(enqueues=True)
    bench.submit(policy="exit_when: exit >= 2")
    bench.dispatcher.decide()

    sentence = bench.dispatcher.give_up_running(60.0)

    assert sentence == "a run of the stages 0 to 2 of resnet50 has not ended for 1 min"
    assert bench.rejected == [Code.ENGINE_FAILED]
