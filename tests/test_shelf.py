"""Engines are opened beside the others' stages, unloaded for room, and closed after their tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.backends.onnx import OnnxBackend
from appliance.backends.protocol import Backend, Features
from appliance.dispatcher import Dispatcher
from appliance.engine import Engine
from appliance.engine_health import Remedy
from appliance.errors import Code, EngineClosed, EngineError
from appliance.executor import Executor
from appliance.loop import ExecutorLoop
from appliance.opener import Opened, Opener
from appliance.openings import Openings
from appliance.shelf import EngineShelf, StageFailed
from appliance.task import Task
from tests.appliances import WAIT_S
from tests.engines import tiny_engine
from tests.factories import a_plan, a_request
from tests.waiting import wait_until


class NotedBackend(OnnxBackend):
    """ONNX stages, each of which is told of before it runs."""

    def __init__(self, engine: Engine, ran: Callable[[Engine], None]) -> None:
        super().__init__(engine, threads=1)
        self._told_of = engine
        self._ran = ran

    def run(
        self, stage: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        self._ran(self._told_of)
        return super().run(stage, batch)


class Bench:
    """A shelf on a real loop, which opens ONNX engines, and notes what is open and what ran."""

    def __init__(self, folder: Path, *, memory_bytes: float = float("inf")) -> None:
        self.opened: SimpleQueue[Opened] = SimpleQueue()
        self.outcomes: SimpleQueue[tuple[Task, Code | None]] = SimpleQueue()
        self.open_backends: list[Engine] = []
        self.ran: Callable[[Engine], None] = lambda _engine: None
        self.surprise: Exception | None = None
        """What the runtime raises when it is entered next."""
        self.executor = Executor(time.monotonic)
        self.dispatcher = Dispatcher(
            executor=self.executor,
            clock=time.monotonic,
            finished=lambda task: self.outcomes.put((task, None)),
            rejected=lambda task, code, _detail: self.outcomes.put((task, code)),
            unaffordable=lambda task, _balance: self.outcomes.put((task, Code.TOO_MANY)),
            failed=lambda _engine, _error: None,
        )
        self.loop = ExecutorLoop(
            dispatcher=self.dispatcher,
            tenancy=self.executor.tenancy,
            clock=time.monotonic,
            tick=self._tick,
        )
        self.opener = Opener(
            loop=self.loop,
            executor=self.executor,
            dispatcher=self.dispatcher,
            new_backend=self._watched,
            openings=Openings(None),
            opened=self.opened.put,
            timeout_s=WAIT_S,
        )
        self.shelf = EngineShelf(
            plans=None,
            folder=folder,
            memory_bytes=memory_bytes,
            opener=self.opener,
            clock=time.monotonic,
        )

    def open(self, name: str) -> Engine:
        """The engine of that name, waited for where it is not open."""
        try:
            return self.shelf.engine(name)
        except EngineClosed:
            self.take()
            return self.shelf.engine(name)

    def take(self) -> Engine | None:
        return self.shelf.take(self.opened.get(timeout=WAIT_S))

    def open_names(self) -> list[str]:
        return sorted(engine.name for engine in self.open_backends)

    def task(self, engine: Engine, *, tenant: str = "gate") -> Task:
        plan = a_plan("exit_when: exit >= 0", engine=engine, tenant=tenant)
        frame = np.zeros((1, *engine.input.shape), np.float32)
        request = a_request(tenant=tenant, received_s=time.monotonic())
        return Task(request=request, plan=plan, features=frame)

    def _tick(self) -> None:
        self.opener.sweep()

    def _note(self, engine: Engine) -> None:
        self.ran(engine)

    @contextmanager
    def _watched(self, engine: Engine) -> Iterator[Backend]:
        if self.surprise is not None:
            raise self.surprise
        with NotedBackend(engine, self._note) as backend:
            self.open_backends.append(engine)
            yield backend
            self.open_backends = [other for other in self.open_backends if other is not engine]


@contextmanager
def bench_of(
    folder: Path, *engines: str, memory_bytes: float = float("inf"), breaks_at: float = 1e6
) -> Iterator[Bench]:
    for name in engines:
        tiny_engine(folder / name, breaks_at=breaks_at)
    bench = Bench(folder, memory_bytes=memory_bytes)
    with bench.loop, bench.opener:
        yield bench


def test_an_engine_is_opened_when_it_is_first_asked_for(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench:
        with pytest.raises(EngineClosed, match="being opened"):
            bench.shelf.engine("tiny")
        bench.take()

        assert bench.shelf.engine("tiny").name == "tiny"
        assert bench.shelf.backends() == {"tiny": "onnx"}


def test_an_engine_that_is_being_opened_is_not_opened_twice(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench:
        for _ in range(3):
            with pytest.raises(EngineClosed):
                bench.shelf.engine("tiny")
        bench.take()

    assert bench.opened.empty()


def test_an_unknown_engine_is_refused_at_once_with_those_that_are_there(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench, pytest.raises(EngineError, match="there: tiny"):
        bench.shelf.engine("tinny")


def test_its_estimates_are_known_once_it_is_open(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench:
        engine = bench.open("tiny")

        assert all(time_s > 0 for time_s in bench.opener.stage_times_s(engine))


def test_the_engine_that_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    with bench_of(tmp_path, "a", "b", "c", memory_bytes=250e6) as bench:
        for name in "abc":
            _take_up_space(tmp_path / name / "stage0.onnx.data", size_bytes=100_000_000)
        for name in "abac":
            bench.open(name)
        wait_until(lambda: bench.open_names() == ["a", "c"])

        assert sorted(bench.shelf.backends()) == ["a", "c"]


def test_an_unloaded_engine_is_opened_again_as_a_new_generation(tmp_path: Path) -> None:
    with bench_of(tmp_path, "a", "b", memory_bytes=1.0) as bench:
        first = bench.open("a")
        bench.open("b")
        second = bench.open("a")

    assert second is not first
    assert second.name == first.name


def test_a_generation_is_closed_only_after_its_last_task(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench:
        old = bench.open("tiny")
        bench.shelf.reload("tiny")
        previous = bench.take()
        assert previous is old

        def submit_and_close() -> None:
            # What is posted here is done before the next stage runs.
            bench.dispatcher.submit(bench.task(old))
            bench.shelf.close(old)

        bench.loop.call(submit_and_close)
        bench.loop.submit(bench.task(bench.shelf.engine("tiny")))
        outcomes = [bench.outcomes.get(timeout=WAIT_S) for _ in range(2)]
        wait_until(lambda: len(bench.open_backends) == 1)

        assert [code for _, code in outcomes] == [None, None]
        assert bench.open_backends[0] is bench.shelf.engine("tiny")
        assert not bench.dispatcher.has_tasks_of(old)


def test_others_stages_run_while_an_engine_is_warmed_up(tmp_path: Path) -> None:
    with bench_of(tmp_path, "a", "b") as bench:
        served = bench.open("a")
        ran: list[str] = []

        def note(engine: Engine) -> None:
            if not ran:
                bench.loop.submit(bench.task(served))
            ran.append(engine.name)

        bench.ran = note
        bench.open("b")

    assert ran.index("a") < len(ran) / 2


def test_an_engine_that_fails_while_it_warms_up_is_refused_and_closed(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny", breaks_at=0.0) as bench:
        with pytest.raises(EngineClosed):
            bench.shelf.engine("tiny")
        bench.take()
        with pytest.raises(EngineError, match="stage 0"):
            bench.shelf.engine("tiny")
        told = bench.shelf.settle("tiny")
        wait_until(lambda: not bench.open_backends)

        assert told is not None
        assert "cannot be opened" in told
        with pytest.raises(EngineError, match="out of service"):
            bench.shelf.engine("tiny")


def test_whatever_a_runtime_raises_is_the_reason_why_an_engine_does_not_serve(
    tmp_path: Path,
) -> None:
    with bench_of(tmp_path, "a", "b") as bench:
        bench.surprise = MemoryError("no room on the device")
        with pytest.raises(EngineError, match="no room on the device"):
            bench.open("a")
        bench.surprise = None

        assert bench.open("b").name == "b"


def test_a_reload_that_fails_leaves_the_generation_before_in_service(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench:
        engine = bench.open("tiny")
        (tmp_path / "tiny" / "stage2.onnx").write_bytes(b"no network")
        bench.shelf.reload("tiny")
        previous = bench.take()

        assert previous is None
        assert bench.shelf.engine("tiny") is engine
        assert bench.shelf.settle("tiny") is None


def test_failures_of_a_replaced_generation_and_during_a_reload_count_for_nothing(
    tmp_path: Path,
) -> None:
    def failure(engine: Engine) -> StageFailed:
        return StageFailed(engine=engine, error=EngineError("broken"), at_s=0.0)

    with bench_of(tmp_path, "tiny") as bench:
        old = bench.open("tiny")
        first = bench.shelf.failed(failure(old))
        bench.shelf.reload("tiny")
        while_it_reloads = [bench.shelf.failed(failure(old)) for _ in range(5)]
        bench.take()
        of_the_old_one = [bench.shelf.failed(failure(old)) for _ in range(5)]
        new = bench.shelf.engine("tiny")
        of_the_new_one = [bench.shelf.failed(failure(new)) for _ in range(2)]

    assert first is Remedy.RELOAD
    assert {*while_it_reloads, *of_the_old_one} == {Remedy.NOTHING}
    assert of_the_new_one == [Remedy.NOTHING, Remedy.TAKE_OUT]


def test_an_engine_that_was_taken_out_serves_again_once_it_is_brought_back(tmp_path: Path) -> None:
    with bench_of(tmp_path, "tiny") as bench:
        engine = bench.open("tiny")
        failure = StageFailed(engine=engine, error=EngineError("broken"), at_s=0.0)
        bench.shelf.take_out(failure)
        with pytest.raises(EngineError, match=r'command \{"reload": "tiny"\}'):
            bench.shelf.engine("tiny")
        bench.shelf.bring_back("tiny")

        assert bench.open("tiny") is not engine


def _take_up_space(path: Path, *, size_bytes: int) -> None:
    """A file that is all hole, so that it has a size and costs nothing."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
