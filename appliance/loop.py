"""The executor's thread, and the one that keeps deadlines while it is in a stage."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from queue import Empty, SimpleQueue
from typing import TypeVar

from typing_extensions import Self

from appliance.dispatcher import Dispatcher
from appliance.quantities import Dimension, format_quantity
from appliance.task import Task
from appliance.tenancy import Tenancy

T = TypeVar("T")

TICK_S = 0.5
"""How often what is done now and then is done."""

OWN_WORK_S = 0.001
"""From how much of it on, work of the appliance's own is told to those who measure energy."""

LONGEST_WAIT_S = 60.0
"""How often the timekeeper looks whether a stage hangs, at least."""


def _ignored(_sentence: str) -> None: ...


class ExecutorLoop:
    """Owns the thread in which every stage runs, and the dispatcher that it asks.

    A second thread, the timekeeper, has tasks answered or turned away at their time where a stage
    takes longer than was foreseen. One lock keeps the two apart; it is never held while a stage
    runs. `tick` is called every half second and at the end, in the executor's thread, which it
    must not hold up; so must not what the dispatcher calls.

    A stage that has run for `stage_timeout_s` hangs. Nothing takes a thread out of it, so its tasks
    are turned away, and `hung` is called in the timekeeper with a sentence: the process is to end.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        dispatcher: Dispatcher,
        tenancy: Tenancy,
        clock: Callable[[], float],
        tick: Callable[[], None],
        stage_timeout_s: float = math.inf,
        hung: Callable[[str], None] = _ignored,
    ) -> None:
        self._stage_timeout_s = stage_timeout_s
        self._hung = hung
        self._hangs_s = math.inf
        """When what runs now is to be taken for one that hangs."""
        self._tried: str | None = None
        """What runs now, where that is no stage of a task."""
        self._dispatcher = dispatcher
        self._tenancy = tenancy
        self._clock = clock
        self._tick = tick
        self._tick_due_s = clock() + TICK_S
        self._inbox: SimpleQueue[Task | Callable[[], None]] = SimpleQueue()
        self._idle = True
        self._stopping = False
        self._contexts: dict[int, ExitStack] = {}
        self._turn = threading.Condition(threading.RLock())
        self._alarm_s = math.inf
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="executor")
        self._timekeeper = threading.Thread(target=self._keep_time, name="timekeeper")

    def __enter__(self) -> Self:
        self._thread.start()
        self._timekeeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(self._stop)
        self._thread.join()
        with self._turn:
            self._ended = True
            self._turn.notify()
        self._timekeeper.join()

    def submit(self, task: Task) -> None:
        """Queues a task; what becomes of it is told by the dispatcher."""
        self._inbox.put(task)

    def post(self, work: Callable[[], None]) -> None:
        """Has something short done in the executor's thread, between two stages."""
        self._inbox.put(lambda: self._locked(work))

    def call(self, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Does something short in the executor's thread, between two stages, and waits for it.

        Raises futures.TimeoutError where that takes longer than `patience_s`.
        """
        return self._outcome(lambda: self._locked(work)).result(patience_s)

    def occupy(self, work: Callable[[], T]) -> T:
        """Does something long in the executor's thread, and waits for it.

        Deadlines are kept meanwhile, so that it must not touch what has to do with tasks.
        """
        return self._outcome(work).result()

    def try_out(self, work: Callable[[], T], what: str) -> T:
        """Occupies the thread with what may take no longer than a stage; `what` names it."""

        def watched() -> T:
            with self._turn:
                self._tried, self._hangs_s = what, self._clock() + self._stage_timeout_s
            try:
                return work()
            finally:
                with self._turn:
                    self._tried, self._hangs_s = None, math.inf

        return self.occupy(watched)

    def _outcome(self, work: Callable[[], T]) -> Future[T]:
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised again where it is awaited
                outcome.set_exception(error)

        self._inbox.put(run)
        return outcome

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enters something in the executor's thread, to be left there when the thread ends."""
        return self.occupy(lambda: self._enter(context))

    def leave(self, context: AbstractContextManager[T]) -> None:
        """Leaves earlier what was entered; to be called in the executor's thread."""
        self._contexts.pop(id(context)).close()

    def _enter(self, context: AbstractContextManager[T]) -> T:
        with ExitStack() as stack:
            entered = stack.enter_context(context)
            self._contexts[id(context)] = stack.pop_all()
        return entered

    def _leave_all(self) -> None:
        with ExitStack() as last_entered_first:
            for stack in self._contexts.values():
                last_entered_first.push(stack)

    def _locked(self, work: Callable[[], T]) -> T:
        with self._turn:
            return work()

    def _stop(self) -> None:
        self._stopping = True
        self._locked(self._dispatcher.scheduler.answer_all)

    def _run(self) -> None:
        with ExitStack() as at_the_end:
            at_the_end.callback(self._leave_all)
            while not self._stopping or len(self._dispatcher.scheduler):
                self._take_in()
                self._take_turn()
            self._locked(self._tick)

    def _take_turn(self) -> None:
        with self._turn:
            batch = self._dispatcher.decide()
            if batch:
                self._set_alarm()
                self._hangs_s = self._clock() + self._stage_timeout_s
        self._idle = not batch
        if batch:
            output = self._dispatcher.run(batch)
            with self._turn:
                self._hangs_s = math.inf
                self._dispatcher.take(batch, output)

    def _take_in(self) -> None:
        """Empties the inbox, and waits for something where there is nothing to run."""
        self._tick_if_due()
        while not self._inbox.empty() or (self._idle and not self._stopping):
            try:
                item = self._inbox.get(timeout=self._patience_s())
            except Empty:
                self._tick_if_due()
                if len(self._dispatcher.scheduler):
                    return
                continue
            self._idle = False
            if isinstance(item, Task):
                with self._turn:
                    self._dispatcher.submit(item)
            else:
                self._do(item)

    def _patience_s(self) -> float:
        ends_s = min(self._tick_due_s, self._dispatcher.next_timer_s())
        return max(0.0, ends_s - self._clock())

    def _tick_if_due(self) -> None:
        if self._clock() >= self._tick_due_s:
            self._tick_due_s = self._clock() + TICK_S
            self._locked(self._tick)

    def _do(self, work: Callable[[], None]) -> None:
        started_s = self._clock()
        work()
        ended_s = self._clock()
        if ended_s - started_s > OWN_WORK_S:
            with self._turn:
                self._tenancy.worked(started_s, ended_s)

    def _set_alarm(self) -> None:
        """Wakes the timekeeper where a task's time comes before the one it waits for."""
        if self._dispatcher.next_timer_s() < self._alarm_s:
            self._turn.notify()

    def _keep_time(self) -> None:
        while (sentence := self._next_hang()) is not None:
            self._hung(sentence)

    def _next_hang(self) -> str | None:
        """Keeps deadlines until a stage hangs, whose tasks are turned away; None at the end."""
        longest_wait_s = min(LONGEST_WAIT_S, self._stage_timeout_s)
        with self._turn:
            while not self._ended:
                self._alarm_s = self._dispatcher.next_timer_s()
                now_s = self._clock()
                if now_s >= self._hangs_s:
                    self._hangs_s = math.inf
                    return self._hang()
                if self._alarm_s > now_s:
                    next_s = min(self._alarm_s, self._hangs_s)
                    self._turn.wait(min(next_s - now_s, longest_wait_s))
                else:
                    self._dispatcher.fire()
        return None

    def _hang(self) -> str:
        if self._tried is None:
            return self._dispatcher.give_up_running(self._stage_timeout_s)
        limit = format_quantity(self._stage_timeout_s, Dimension.TIME)
        return f"{self._tried} has not ended for {limit}"
