"""The executor's thread: takes tasks in, runs their stages, hands over what is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

from typing_extensions import Self

from appliance.budgets import Balance
from appliance.errors import Code, EngineError
from appliance.executor import Executor
from appliance.scheduler import Scheduler
from appliance.task import Task

T = TypeVar("T")

TICK_S = 0.5
"""How often what is done now and then is done."""

OWN_WORK_S = 0.001
"""From how much of it on, work of the appliance's own is told to those who measure energy."""


class ExecutorLoop:
    """Owns the thread in which every stage runs, and the scheduler that it asks.

    `finished` is called with a task that has its answer, `rejected` with one that gets none,
    `unaffordable` with one for which a budget has no room, `tick` every half second and at the
    end; all in this thread, which they must not hold up.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        executor: Executor,
        scheduler: Scheduler,
        clock: Callable[[], float],
        finished: Callable[[Task], None],
        rejected: Callable[[Task, Code, str], None],
        unaffordable: Callable[[Task, Balance], None],
        tick: Callable[[], None],
    ) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._clock = clock
        self._finished = finished
        self._rejected = rejected
        self._unaffordable = unaffordable
        self._tick = tick
        self._tick_due_s = clock() + TICK_S
        self._inbox: SimpleQueue[Task | Callable[[], None]] = SimpleQueue()
        self._stopping = False
        self._contexts = ExitStack()
        self._thread = threading.Thread(target=self._run, name="executor")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inbox.put(self._stop)
        self._thread.join()

    def submit(self, task: Task) -> None:
        """Queues a task; its outcome comes through `finished` or `rejected`."""
        self._inbox.put(task)

    def post(self, work: Callable[[], None]) -> None:
        """Has something done in the executor's thread, between two stages."""
        self._inbox.put(work)

    def call(self, work: Callable[[], T]) -> T:
        """Does something in the executor's thread, between two stages, and waits for it."""
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
                outcome.set_exception(error)

        self._inbox.put(run)
        return outcome.result()

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enters something in the executor's thread, to be left there when the thread ends."""
        return self.call(lambda: self._contexts.enter_context(context))

    def _stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        with self._contexts:
            while not self._stopping or len(self._scheduler):
                self._take_in()
                task = self._scheduler.next()
                if task is not None:
                    self._step(task)
            self._tick()

    def _take_in(self) -> None:
        """Empties the inbox, and waits for something where there is nothing to run."""
        self._tick_if_due()
        while not self._inbox.empty() or (not len(self._scheduler) and not self._stopping):
            try:
                item = self._inbox.get(timeout=max(0.0, self._tick_due_s - self._clock()))
            except Empty:
                self._tick_if_due()
                continue
            if isinstance(item, Task):
                self._submit(item)
            else:
                self._do(item)

    def _tick_if_due(self) -> None:
        if self._clock() >= self._tick_due_s:
            self._tick_due_s = self._clock() + TICK_S
            self._tick()

    def _do(self, work: Callable[[], None]) -> None:
        started_s = self._clock()
        work()
        ended_s = self._clock()
        if ended_s - started_s > OWN_WORK_S:
            self._executor.tenancy.worked(started_s, ended_s)

    def _submit(self, task: Task) -> None:
        self._executor.tenancy.arrived(task, self._clock())
        if self._is_unaffordable(task):
            return
        shed = self._scheduler.submit(task)
        if shed is not None:
            queue = shed.plan.policy.queue
            self._rejected(
                shed,
                Code.TOO_MANY,
                f"the tenant's queue is full ({queue.limit} requests, {queue.full}):"
                " send less, or raise queue.limit",
            )

    def _step(self, task: Task) -> None:
        if task.expired(self._clock()):
            self._expire(task)
            return
        if task.started_s is None and self._is_unaffordable(task):
            return
        try:
            self._executor.step(task)
        except EngineError as error:
            self._rejected(task, Code.ENGINE_FAILED, str(error))
            return
        if task.stopped_by is None:
            self._scheduler.resume(task)
        else:
            self._finished(task)

    def _is_unaffordable(self, task: Task) -> bool:
        """Turns a task away for which a budget has no room."""
        shortage = self._executor.tenancy.shortage(task.plan, self._clock())
        if shortage is not None:
            self._unaffordable(task, shortage)
        return shortage is not None

    def _expire(self, task: Task) -> None:
        self._rejected(
            task, Code.EXPIRED, "the message expired while its frame waited in the queue"
        )
