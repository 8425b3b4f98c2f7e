"""The thread that opens engines and warms them up, and closes those that are done with."""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

from typing_extensions import Self

from appliance import resident
from appliance.backends.protocol import Backend
from appliance.dispatcher import Dispatcher
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.executor import Executor
from appliance.loop import ExecutorLoop
from appliance.openings import Openings

_log = logging.getLogger(__name__)

WARM_UP_RUNS = 16

GRACE_S = 5.0
"""How long after its time an opening has, to be told of and to be ended in good order."""

_STDERR = 2

CALIBRATION_TIMEOUT_S = 2.0
CALIBRATION_PIECE_S = 0.05
"""How long a piece of it holds up other engines' stages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """An engine that is open and warm, or why it could not be opened."""

    engine: Engine
    took_s: float
    backend: str = ""
    """The name of what runs it."""
    grown_bytes: int = 0
    """By how much the process has grown."""
    error: EngineError | None = None


class Opener:
    """Owns the thread in which engines are opened, one after another, while others' stages run.

    The executor's thread is asked for pieces of it, each as long as a stage. `opened` is called
    in the opener's thread with what came of it. An opening that takes longer than `timeout_s`
    hangs, and is the loop's to tell of. An engine stays open until `close`, and then until the last
    of its tasks is answered.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        loop: ExecutorLoop,
        executor: Executor,
        dispatcher: Dispatcher,
        new_backend: Callable[[Engine], AbstractContextManager[Backend]],
        openings: Openings,
        opened: Callable[[Opened], None],
        timeout_s: float,
    ) -> None:
        self._loop = loop
        self._executor = executor
        self._dispatcher = dispatcher
        self._new_backend = new_backend
        self._openings = openings
        self._opened = opened
        self._timeout_s = timeout_s
        self._contexts: dict[int, AbstractContextManager[Backend]] = {}
        self._leaving: dict[int, Engine] = {}
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="opener")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(None)
        self._thread.join()

    def open(self, engine: Engine) -> None:
        """Has an engine opened; `opened` tells of it."""
        self._inbox.put(lambda: self._opened(self._open(engine)))

    def close(self, engine: Engine) -> None:
        """Has an open engine closed once no task of it is left; none may be submitted any more."""
        self._loop.post(lambda: self._leaving.update({id(engine): engine}))
        self._loop.post(self.sweep)

    def stage_times_s(self, engine: Engine) -> tuple[float, ...]:
        """The estimated time of each stage of an open engine, in seconds."""
        return self._loop.call(lambda: tuple(self._executor.times(engine).careful_s))

    def sweep(self) -> None:
        """Closes the engines whose last task is gone; in the executor's thread, now and then."""
        for engine in list(self._leaving.values()):
            if self._dispatcher.has_tasks_of(engine):
                continue
            del self._leaving[id(engine)]
            self._leave(engine)
            # What it took is not given back here, where stages wait.
            self._inbox.put(resident.give_back)
            _log.info("engine %s is closed", engine.name)

    def _run(self) -> None:
        while (work := self._inbox.get()) is not None:
            work()

    def _open(self, engine: Engine) -> Opened:
        started_s = time.monotonic()
        before_bytes = resident.settled_bytes()
        try:
            with self._openings.noted(engine), self._limited(engine):
                backend = self._enter(engine)
                self._warm_up(engine)
        except Exception as error:  # noqa: BLE001 - a runtime raises what it likes; others go on
            self._loop.call(lambda: self._abandon(engine))
            if not isinstance(error, EngineError):
                _log.exception("engine %s: its runtime raised what it should not", engine.name)
            # The sentence alone: the error itself would hold on to all that was opened.
            return Opened(
                engine=engine,
                took_s=time.monotonic() - started_s,
                error=EngineError(str(error) or repr(error)),
            )
        _log.info("engine %s is open: %d exits", engine.name, len(engine.stages))
        return Opened(
            engine=engine,
            took_s=time.monotonic() - started_s,
            backend=backend.name,
            grown_bytes=resident.settled_bytes() - before_bytes,
        )

    @contextmanager
    def _limited(self, engine: Engine) -> Iterator[None]:
        with self._loop.limited(f"the opening of the engine {engine.name}", self._timeout_s):
            # ONNX Runtime 1.23 has every thread of Python's wait while it opens a session: then
            # there is none that could tell, and only what needs none can end the process.
            faulthandler.dump_traceback_later(self._timeout_s + GRACE_S, exit=True, file=_STDERR)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()

    def _enter(self, engine: Engine) -> Backend:
        context = self._new_backend(engine)
        backend = self._loop.enter(context)
        self._contexts[id(engine)] = context
        self._loop.call(lambda: self._executor.add(engine, backend))
        return backend

    def _abandon(self, engine: Engine) -> None:
        """Leaves an engine that could not be opened, as far as it was."""
        if id(engine) in self._contexts:
            self._leave(engine)

    def _leave(self, engine: Engine) -> None:
        self._dispatcher.remove(engine)
        self._loop.leave(self._contexts.pop(id(engine)))

    def _warm_up(self, engine: Engine) -> None:
        stages = self._executor.warming_up(engine, runs=WARM_UP_RUNS)
        what = f"a stage of {engine.name}, in its warm-up,"
        while self._loop.try_out(lambda: next(stages, None), what) is not None:
            pass
        self._calibrate(engine)

    def _calibrate(self, engine: Engine) -> None:
        """Where there is a meter, lets it see the stages at work before the first request."""
        energy = self._executor.tenancy.energy
        ends_s = time.monotonic() + CALIBRATION_TIMEOUT_S
        while time.monotonic() < ends_s and self._loop.call(
            lambda: energy.lacks_calibration(engine.name)
        ):
            self._loop.occupy(lambda: self._executor.exercise(engine, seconds=CALIBRATION_PIECE_S))
