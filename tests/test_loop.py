"""The executor's thread: every task comes out once, answered or rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from appliance.errors import Code
from appliance.loop import ExecutorLoop
from appliance.scheduler import Scheduler
from appliance.task import Task
from tests.test_executor import Bench, a_plan, a_task

Outcome = tuple[Task, Code | None]


class Ticks:
    """How often what is done now and then was done."""

    def __init__(self) -> None:
        self.count = 0

    def take(self) -> None:
        self.count += 1


class RunningLoop:
    """A loop on a simulated backend, and what comes out of it."""

    def __init__(self, bench: Bench) -> None:
        self.ticks = Ticks()
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.loop = ExecutorLoop(
            executor=bench.executor,
            scheduler=Scheduler(),
            clock=bench.clock,
            finished=lambda task: self.outcomes.put((task, None)),
            rejected=lambda task, code, _detail: self.outcomes.put((task, code)),
            unaffordable=lambda task, _balance: self.outcomes.put((task, Code.TOO_MANY)),
            tick=self.ticks.take,
        )


@contextmanager
def closing_with(left: Callable[[], None]) -> Iterator[None]:
    yield
    left()


def test_a_task_comes_out_finished() -> None:
    bench = Bench()
    running = RunningLoop(bench)
    task = a_task(bench.clock, a_plan(bench.engine, "exit_when: exit >= 1"))

    with running.loop:
        running.loop.submit(task)
        outcome = running.outcomes.get(timeout=5)

    assert outcome == (task, None)


def test_a_stage_that_fails_rejects_its_task_and_the_next_one_is_answered() -> None:
    bench = Bench()
    running = RunningLoop(bench)
    plan = a_plan(bench.engine, "exit_when: exit >= 1")

    with running.loop:
        bench.backend.fails_at = 1
        running.loop.submit(a_task(bench.clock, plan))
        _, failed = running.outcomes.get(timeout=5)
        bench.backend.fails_at = None
        running.loop.submit(a_task(bench.clock, plan))
        _, answered = running.outcomes.get(timeout=5)

    assert (failed, answered) == (Code.ENGINE_FAILED, None)


def test_a_message_that_expired_in_the_queue_is_rejected_and_never_run() -> None:
    bench = Bench()
    running = RunningLoop(bench)
    task = a_task(bench.clock, a_plan(bench.engine, ""), expires_s=bench.clock() + 1)
    bench.clock.advance(2)

    with running.loop:
        running.loop.submit(task)
        _, code = running.outcomes.get(timeout=5)

    assert code is Code.EXPIRED
    assert bench.backend.ran == []


def test_what_is_in_flight_is_finished_before_the_thread_ends() -> None:
    bench = Bench()
    running = RunningLoop(bench)
    plan = a_plan(bench.engine, "queue: {limit: 100}")

    with running.loop:
        for _ in range(50):
            running.loop.submit(a_task(bench.clock, plan))

    assert running.outcomes.qsize() == 50


def test_what_was_entered_in_the_thread_is_left_only_after_the_last_task() -> None:
    bench = Bench()
    running = RunningLoop(bench)
    events: list[str] = []

    with running.loop:
        running.loop.enter(closing_with(lambda: events.append(str(running.outcomes.qsize()))))
        for _ in range(20):
            running.loop.submit(a_task(bench.clock, a_plan(bench.engine, "")))

    assert events == ["20"]


def test_work_in_the_thread_gives_back_its_result_and_its_error() -> None:
    running = RunningLoop(Bench())

    with running.loop:
        assert running.loop.call(lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            running.loop.call(lambda: 1 // 0)
