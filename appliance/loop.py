"""The executor's thread, and the one that keeps deadlines while it is in a stage."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from queue import Empty, Queue
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

LOOK_EVERY_S = 1.0
"""How often the timekeeper looks whether something hangs, at least."""

_STAGE = object()
"""The mark of the tasks' own stage among what is watched."""


def _ignored(_sentence: str) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Watched:
    """Something that runs, and what is done where it has not ended in time."""

    ends_s: float
    give_up: Callable[[], str]
    """Gives the sentence that says so."""


class ExecutorLoop:
    """Owns the thread in which every stage runs, and the dispatcher that it asks.

    A second thread, the timekeeper, has tasks answered or turned away at their time where a stage
    takes longer than was foreseen. One lock keeps the two apart; it is never held while a stage
    runs. `tick` is called every half second and at the end, in the executor's thread, which it
    must not hold up; so must not what the dispatcher calls.

    A stage that has run for `stage_timeout_s` hangs. Nothing takes a thread out of it, so its tasks
    are turned away, and `hung` is called in the timekeeper with a sentence: the process is to end.
    So it is where what `limited` encloses takes longer than it may. The time in which the whole
    process stood still (stopped, or without a processor) counts for nothing.
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
        self._watched: dict[object, _Watched] = {}
        self._look_s = clock()
        """When the timekeeper meant to look what hangs."""
        self._dispatcher = dispatcher
        self._tenancy = tenancy
        self._clock = clock
        self._tick = tick
        self._tick_due_s = clock() + TICK_S
        # Before Python 3.13 a SimpleQueue may wait for ever for what it is to wait for a while.
        self._inbox: Queue[Task | Callable[[], None]] = Queue()
        self._idle = True
        self._stopping = False
        self._contexts: dict[int, ExitStack] = {}
        self._turn = threading.Condition(threading.RLock())
        self._alarm_s = math.inf
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="executor")
        self._timekeeper = threading.Thread(target=self._keep_time, name="timekeeper")

    def __enter__(self) -> Self:
        self._look_s = self._clock()
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
            with self.limited(what, self._stage_timeout_s):
                return work()

        return self.occupy(watched)

    @contextmanager
    def limited(self, what: str, limit_s: float) -> Iterator[None]:
        """Has what is done within it, in whichever thread, taken for one that hangs after so long.

        `what` names it.
        """
        limit = format_quantity(limit_s, Dimension.TIME)
        sentence = f"{what} has not ended for {limit}"
        mark = object()
        with self._turn:
            self._watch(mark, limit_s, lambda: sentence)
            self._turn.notify()
        try:
            yield
        finally:
            with self._turn:
                self._watched.pop(mark, None)

    def _watch(self, mark: object, limit_s: float, give_up: Callable[[], str]) -> None:
        self._watched[mark] = _Watched(ends_s=self._clock() + limit_s, give_up=give_up)

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
                self._watch(_STAGE, self._stage_timeout_s, self._give_up_stage)
        self._idle = not batch
        if batch:
            output = self._dispatcher.run(batch)
            with self._turn:
                self._watched.pop(_STAGE, None)
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
        """Keeps deadlines until something hangs, which is given up; None at the end."""
        with self._turn:
            while not self._ended:
                self._alarm_s = self._dispatcher.next_timer_s()
                now_s = self._clock()
                self._forgive(now_s - self._look_s)
                for mark, watched in self._watched.items():
                    if now_s >= watched.ends_s:
                        del self._watched[mark]
                        return watched.give_up()
                wait_s = min(self._next_look_s() - now_s, LOOK_EVERY_S, self._stage_timeout_s)
                self._look_s = now_s + max(0.0, wait_s)
                if self._alarm_s > now_s:
                    self._turn.wait(max(0.0, wait_s))
                else:
                    self._dispatcher.fire()
        return None

    def _next_look_s(self) -> float:
        return min([self._alarm_s, *(watched.ends_s for watched in self._watched.values())])

    def _forgive(self, late_s: float) -> None:
        """Adds to what is watched the time in which the whole process stood still."""
        if late_s > LOOK_EVERY_S:
            for mark, watched in self._watched.items():
                self._watched[mark] = replace(watched, ends_s=watched.ends_s + late_s)

    def _give_up_stage(self) -> str:
        return self._dispatcher.give_up_running(self._stage_timeout_s)
