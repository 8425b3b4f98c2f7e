"""The executor's thread: every task comes out once, answered or rejected, and at its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

import appliance
from appliance.dispatcher import Dispatcher
from appliance.engine import Engine
from appliance.errors import Code, EngineError
from appliance.executor import Executor
from appliance.loop import LOOK_EVERY_S, ExecutorLoop
from appliance.task import Task
from tests.simulated import BlockedBackend, SimulatedBackend, SimulatedClock
from tests.test_executor import a_plan, a_task, an_engine
from tests.waiting import PATIENCE_S, wait_until

Outcome = tuple[Task, Code | None]

PACKAGE = Path(appliance.__file__).parent


class RunningLoop:
    """A loop on a simulated backend, and what comes out of it."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.engine = an_engine()
        self.backend = SimulatedBackend(self.clock, stage_times_s=(0.010,) * 4)
        self.ticks = 0
        self.failures: list[tuple[Engine, EngineError]] = []
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()
        executor = Executor(self.clock)
        executor.add(self.engine, self.backend)
        self.loop = ExecutorLoop(
            dispatcher=Dispatcher(
                executor=executor,
                clock=self.clock,
                finished=lambda task: self.outcomes.put((task, None)),
                rejected=lambda task, code, _detail: self.outcomes.put((task, code)),
                unaffordable=lambda task, _balance: self.outcomes.put((task, Code.TOO_MANY)),
                failed=lambda engine, error: self.failures.append((engine, error)),
            ),
            tenancy=executor.tenancy,
            clock=self.clock,
            tick=self._tick,
        )

    def task(self, policy: str = "", *, expires_s: float | None = None) -> Task:
        return a_task(self.clock, a_plan(self.engine, policy), expires_s=expires_s)

    def _tick(self) -> None:
        self.ticks += 1


@contextmanager
def closing_with(left: Callable[[], None]) -> Iterator[None]:
    yield
    left()


def test_a_task_comes_out_finished() -> None:
    running = RunningLoop()
    task = running.task("exit_when: exit >= 1")

    with running.loop:
        running.loop.submit(task)
        outcome = running.outcomes.get(timeout=PATIENCE_S)

    assert outcome == (task, None)


@pytest.mark.parametrize("failure", [EngineError("foreseen"), ValueError("not foreseen")])
def test_a_stage_that_fails_rejects_its_task_and_the_next_one_is_answered(
    failure: Exception,
) -> None:
    running = RunningLoop()
    running.backend.failure = failure

    with running.loop:
        running.backend.fails_at = 1
        running.loop.submit(running.task("exit_when: exit >= 1"))
        _, failed = running.outcomes.get(timeout=PATIENCE_S)
        running.backend.fails_at = None
        running.loop.submit(running.task("exit_when: exit >= 1"))
        _, answered = running.outcomes.get(timeout=PATIENCE_S)

    assert (failed, answered) == (Code.ENGINE_FAILED, None)


def test_a_message_that_has_expired_is_turned_away_and_never_run() -> None:
    running = RunningLoop()
    task = running.task(expires_s=running.clock() + 1)
    running.clock.advance(2)

    with running.loop:
        running.loop.submit(task)
        _, code = running.outcomes.get(timeout=PATIENCE_S)

    assert code is Code.EXPIRED
    assert running.backend.ran == []


def test_what_is_in_flight_is_finished_before_the_thread_ends() -> None:
    running = RunningLoop()

    with running.loop:
        for _ in range(50):
            running.loop.submit(running.task("queue: {limit: 100}"))

    assert running.outcomes.qsize() == 50


def test_what_was_entered_in_the_thread_is_left_only_after_the_last_task() -> None:
    running = RunningLoop()
    events: list[str] = []

    with running.loop:
        running.loop.enter(closing_with(lambda: events.append(str(running.outcomes.qsize()))))
        for _ in range(20):
            running.loop.submit(running.task())

    assert events == ["20"]


def test_work_in_the_thread_gives_back_its_result_and_its_error() -> None:
    running = RunningLoop()

    with running.loop:
        assert running.loop.call(lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            running.loop.call(lambda: 1 // 0)


def test_a_tick_comes_at_the_end_at_the_latest() -> None:
    running = RunningLoop()

    with running.loop:
        pass

    assert running.ticks >= 1


def test_a_tick_comes_every_half_second() -> None:
    running = RunningLoop()

    with running.loop:
        running.clock.advance(0.5)
        wait_until(lambda: running.ticks == 1)
        running.clock.advance(0.5)
        wait_until(lambda: running.ticks == 2)


@pytest.mark.parametrize(("blocked_stage", "code"), [(0, Code.EXPIRED), (2, None)])
def test_a_task_is_dealt_with_at_its_time_while_its_stage_still_runs(
    blocked_stage: int, code: Code | None
) -> None:
    clock, engine = SimulatedClock(), an_engine()
    outcomes: SimpleQueue[tuple[Task, Code | None]] = SimpleQueue()
    executor = Executor(clock)
    with BlockedBackend(blocked_stage) as backend:
        executor.add(engine, backend)
        loop = ExecutorLoop(
            dispatcher=Dispatcher(
                executor=executor,
                clock=clock,
                finished=lambda task: outcomes.put((task, None)),
                rejected=lambda task, code, _detail: outcomes.put((task, code)),
                unaffordable=lambda task, _balance: outcomes.put((task, Code.TOO_MANY)),
                failed=lambda _engine, _error: None,
            ),
            tenancy=executor.tenancy,
            clock=clock,
            tick=lambda: None,
        )
        task = a_task(clock, a_plan(engine, "bounds: {response_time: 300ms}"))
        task.features = np.zeros((1, 2), np.float32)

        with loop:
            loop.submit(task)
            wait_until(backend.is_blocked)
            clock.advance(0.3)
            dealt_with, outcome = outcomes.get(timeout=PATIENCE_S)
            still_running = backend.is_blocked()
            backend.release()

    assert (dealt_with, outcome) == (task, code)
    assert still_running
    assert outcomes.empty()


def test_a_stage_that_hangs_is_told_of_and_its_tasks_are_turned_away() -> None:
    clock, engine, backend = SimulatedClock(), an_engine(), BlockedBackend(blocked_stage=1)
    rejected: SimpleQueue[tuple[Code, str]] = SimpleQueue()
    told: SimpleQueue[str] = SimpleQueue()
    executor = Executor(clock)
    executor.add(engine, backend)
    loop = ExecutorLoop(
        dispatcher=Dispatcher(
            executor=executor,
            clock=clock,
            finished=lambda _task: None,
            rejected=lambda _task, code, detail: rejected.put((code, detail)),
            unaffordable=lambda _task, _balance: None,
            failed=lambda _engine, _error: None,
        ),
        tenancy=executor.tenancy,
        clock=clock,
        tick=lambda: None,
        stage_timeout_s=0.05,
        hung=told.put,
    )

    with backend, loop:
        loop.submit(a_task(clock, a_plan(engine, "")))
        wait_until(backend.is_blocked)
        clock.advance(0.06)
        sentence = told.get(timeout=PATIENCE_S)
        code, detail = rejected.get(timeout=PATIENCE_S)
        backend.release()

    assert sentence == "stage 1 of net has not ended for 50 ms"
    assert code is Code.ENGINE_FAILED
    assert detail.startswith(sentence)
    assert told.empty()


def test_what_takes_longer_than_its_limit_is_told_of_in_whichever_thread_it_is() -> None:
    clock, told = SimulatedClock(), SimpleQueue[str]()
    loop = a_watching_loop(clock, told)

    with loop, loop.limited("the opening of net", 0.5):
        clock.advance(0.5)
        sentence = told.get(timeout=10)

    assert sentence == "the opening of net has not ended for 500 ms"


def test_what_ended_in_time_is_not_told_of() -> None:
    clock, told = SimulatedClock(), SimpleQueue[str]()
    loop = a_watching_loop(clock, told)

    with loop:
        with loop.limited("the opening of net", 0.5):
            pass
        with loop.limited("the opening of another", 0.4):
            clock.advance(0.5)
            sentence = told.get(timeout=10)

    assert sentence.startswith("the opening of another")
    assert told.empty()


def test_while_the_whole_process_stood_still_nothing_hung() -> None:
    leap_s, told = [0.0], SimpleQueue[str]()
    loop = a_watching_loop(lambda: time.monotonic() + leap_s[0], told)

    with loop, loop.limited("what stood still", LOOK_EVERY_S + 0.7):
        # As after SIGSTOP: an hour has passed since anybody looked.
        leap_s[0] = 3600.0
        started_s = time.monotonic()
        told.get(timeout=10)
        waited_s = time.monotonic() - started_s

    assert waited_s > 0.2


def a_watching_loop(clock: Callable[[], float], told: SimpleQueue[str]) -> ExecutorLoop:
    executor = Executor(clock)
    dispatcher = Dispatcher(
        executor=executor,
        clock=clock,
        finished=lambda _task: None,
        rejected=lambda _task, _code, _detail: None,
        unaffordable=lambda _task, _balance: None,
        failed=lambda _engine, _error: None,
    )
    return ExecutorLoop(
        dispatcher=dispatcher,
        tenancy=executor.tenancy,
        clock=clock,
        tick=lambda: None,
        hung=told.put,
    )


def test_nobody_waits_for_a_while_at_a_queue_that_may_make_it_for_ever() -> None:
    modules = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]

    # CPython takes what is left of a time, where that is below nothing, for no limit (until 3.12).
    assert any("SimpleQueue()" in module for module in modules)
    assert not any("SimpleQueue()" in module and ".get(timeout" in module for module in modules)
