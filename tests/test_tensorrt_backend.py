"""Stages on TensorRT, against doubles of `tensorrt` and `pycuda`: nothing here ran on a GPU."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.executor import Executor
from appliance.task import Task
from tests.doubles.board import Board, Transfer
from tests.doubles.installed import doubles
from tests.doubles.plans import frame, opened, planned, through
from tests.engines import CLASSES, tiny_engine, widening_engine
from tests.factories import a_plan, a_request

FRAME_SIZE = 8 * 8 * 4
LOGITS_SIZE = CLASSES * 4


@pytest.fixture(params=["unified memory", "memory of its own"])
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    with doubles(Board(unified=request.param == "unified memory")) as board:
        yield board


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return planned(manifest.load(tiny_engine(tmp_path / "tiny")))


@pytest.mark.usefixtures("board")
def test_it_answers_as_onnx_runtime_does(engine: Engine) -> None:
    random = np.random.default_rng(0).random((3, 1, 1, 8, 8)).astype(np.float32)
    answers = []

    for backend in (opened(engine), OnnxBackend(engine, threads=1)):
        with backend:
            batch: Sequence[Any] = [backend.feed(frame) for frame in random]
            for stage in range(4):
                logits, batch = backend.run(stage, batch)
                answers.append(logits)

    np.testing.assert_allclose(answers[:4], answers[4:], rtol=1e-6)


def test_everything_is_given_back_once(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        through(backend, 0.5)
        assert not board.is_clean

    assert board.is_clean


def test_features_never_come_to_the_host(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        board.transfers.clear()
        through(backend, 0.5)

    frames = [Transfer(to_host=False, size=FRAME_SIZE)]
    logits = [Transfer(to_host=True, size=LOGITS_SIZE)] * 4
    assert board.transfers == ([] if board.unified else [*frames, *logits])
    assert board.device_copies == 0


def test_a_stage_is_waited_for_once(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        board.synchronisations = 0
        through(backend, 0.5)
        assert board.synchronisations == 4


def test_stages_run_through_are_waited_for_once(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        board.synchronisations = 0
        logits, following = backend.run_through(0, 2, [backend.feed(frame(0.5))])
        assert board.synchronisations == 1
        last, none = backend.run(3, following)

    assert (logits[0, 2], last[0, 2], none) == (3.0, 4.0, ())


def test_a_request_whose_exits_are_passed_by_is_waited_for_once(
    board: Board, engine: Engine
) -> None:
    executor = Executor(time.monotonic)
    plan = a_plan("exit_when: exit >= 2", engine=engine)
    task = Task(request=a_request(), plan=plan, features=frame(0.5))

    with opened(engine) as backend:
        executor.add(engine, backend)
        board.synchronisations = 0
        executor.take([task], executor.run([task], last=executor.last_of_span([task])))
        synchronisations = board.synchronisations

    assert synchronisations == 1
    assert task.metrics is not None
    assert task.metrics.exit == 2


def test_nothing_is_allocated_for_a_request(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        allocations, contexts = board.allocations, board.contexts
        for count in (1, 4, 2, 1, 3):
            batch = [backend.feed(frame(0.1 * item)) for item in range(count)]
            for stage in range(4):
                _, batch = backend.run(stage, batch)

    assert (board.allocations, board.contexts) == (allocations, contexts)


def test_a_stage_is_launched_as_a_graph(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        through(backend, 0.5)

    assert board.graph_launches == 4


def test_without_graphs_it_runs_all_the_same_and_says_so(
    board: Board, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    board.captures = 0

    with caplog.at_level(logging.INFO), opened(engine) as backend:
        assert through(backend, 0.5) == [1.0, 2.0, 3.0, 4.0]

    assert board.graph_launches == 0
    assert "stage0.plan runs without CUDA graphs" in caplog.text
    assert board.is_clean


def test_a_stage_of_which_not_all_can_be_recorded_runs_without_graphs(
    board: Board, engine: Engine
) -> None:
    board.captures = 2

    with opened(engine) as backend:
        assert through(backend, 0.5) == [1.0, 2.0, 3.0, 4.0]

    assert board.graph_launches == 0
    assert board.is_clean


def test_a_recording_that_breaks_off_leaves_nothing(
    board: Board, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    board.breaks_recording = True

    with caplog.at_level(logging.INFO), opened(engine) as backend:
        assert through(backend, 0.5) == [1.0, 2.0, 3.0, 4.0]

    assert "operation not permitted when stream is capturing" in caplog.text
    assert board.is_clean


def test_a_batch_shrinks_as_its_members_leave(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        _, batch = backend.run(0, [backend.feed(frame(value)) for value in (0.1, 0.2, 0.3, 0.4)])
        del batch[0], batch[1]
        first, batch = backend.run(1, batch)
        del batch[0]
        second, _ = backend.run(2, batch)

    assert first[:, 2] == pytest.approx([0.8, 1.6])
    assert second[:, 2] == pytest.approx([2.4])
    assert board.device_copies == 3


def test_the_first_members_go_on_without_a_copy(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        _, batch = backend.run(0, [backend.feed(frame(value)) for value in (0.1, 0.2, 0.3)])
        logits, _ = backend.run(1, batch[:2])

    assert logits[:, 2] == pytest.approx([0.4, 0.8])
    assert board.device_copies == 0


def test_a_task_outlives_the_stages_of_a_more_urgent_one(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        _, waiting = backend.run(0, [backend.feed(frame(0.25))])
        assert through(backend, 1.0) == [2.0, 4.0, 6.0, 8.0]
        logits, _ = backend.run(1, waiting)

    assert logits[0, 2] == 1.0
    assert board.device_copies == 2


def test_members_of_several_batches_meet_in_one(engine: Engine, board: Board) -> None:
    with opened(engine) as backend:
        held = []
        for value in (0.1, 0.2, 0.3):
            held += backend.run(0, [backend.feed(frame(value))])[1]
        logits, _ = backend.run(1, [held[2], held[0], held[1]])

    assert logits[:, 2] == pytest.approx([1.2, 0.4, 0.8])
    assert board.synchronisations


def test_what_nobody_holds_is_not_kept(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        _, dropped = backend.run(0, [backend.feed(frame(0.25))])
        del dropped
        through(backend, 1.0)

    assert board.device_copies == 0


def test_more_tasks_than_ever_take_more_memory_and_keep_their_features(
    board: Board, engine: Engine
) -> None:
    values = [number / 100 for number in range(50)]

    with opened(engine) as backend:
        allocations = board.allocations
        held = [backend.run(0, [backend.feed(frame(value))])[1][0] for value in values]
        answers = [backend.run(1, [features])[0][0, 2] for features in held]

    assert answers == pytest.approx([4 * value for value in values])
    assert board.allocations > allocations
    assert board.is_clean


def test_a_batch_larger_than_the_plans_runs_in_parts(board: Board, engine: Engine) -> None:
    values = [number / 10 for number in range(10)]

    with opened(engine) as backend:
        fed = [backend.feed(frame(value)) for value in values]
        _, batch = backend.run(0, fed)
        logits, _ = backend.run(1, batch)

    assert logits[:, 2] == pytest.approx([4 * value for value in values])
    assert board.is_clean


def test_where_a_part_fails_the_whole_batch_can_be_given_again(
    board: Board, engine: Engine
) -> None:
    values = [number / 10 for number in range(6)]

    with opened(engine) as backend:
        fed = [backend.feed(frame(value)) for value in values]
        board.fails_after = 1
        with pytest.raises(EngineError, match="stage 0 of tiny failed"):
            backend.run(0, fed)
        board.fails_after = None
        answers = [backend.run(0, [features])[0][0, 2] for features in fed]

    assert answers == pytest.approx([2 * value for value in values])
    assert board.is_clean


def test_a_frame_that_waits_is_not_written_over(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        waiting = [backend.feed(frame(number / 10)) for number in range(9)]
        answers = [backend.run(0, [features])[0][0, 2] for features in waiting]

    assert answers == pytest.approx([2 * number / 10 for number in range(9)])
    assert board.is_clean


def test_a_frame_on_its_way_elsewhere_is_not_written_over(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        _, following = backend.run(0, [backend.feed(frame(0.0))])
        waiting = [backend.feed(frame(number / 10)) for number in range(4)]
        backend.run(1, following)
        waiting.append(backend.feed(frame(0.4)))
        answers = [backend.run(0, [features])[0][0, 2] for features in waiting]

    assert answers == pytest.approx([2 * number / 10 for number in range(5)])
    assert board.device_copies


def test_what_is_on_its_way_when_it_closes_is_waited_for(board: Board, engine: Engine) -> None:
    with opened(engine) as backend:
        waiting = [backend.feed(frame(0.5)) for _ in range(5)]

    assert len(waiting) == 5
    assert board.is_clean


def test_features_of_any_size_lie_aside(board: Board, tmp_path: Path) -> None:
    engine = planned(manifest.load(widening_engine(tmp_path / "widening")))
    values = [number / 10 for number in range(9)]

    with opened(engine) as backend:
        held = [backend.run(0, [backend.feed(frame(value))])[1][0] for value in values]
        answers = [backend.run(1, [features])[0][0, 2] for features in held]

    assert answers == pytest.approx([4 * value for value in values])
    assert board.is_clean


@pytest.mark.usefixtures("board")
def test_one_frames_logits_outlive_the_next_ones(engine: Engine) -> None:
    with opened(engine) as backend:
        first, _ = backend.run(0, [backend.feed(frame(0.25))])
        backend.run(0, [backend.feed(frame(1.0))])

    assert first[0, 2] == 0.5


@pytest.mark.usefixtures("board")
def test_features_that_were_used_up_are_refused(engine: Engine) -> None:
    with opened(engine) as backend:
        fed = backend.feed(frame(0.5))
        backend.run(0, [fed])

        with pytest.raises(EngineError, match="features given to stage 0 of tiny were used up"):
            backend.run(0, [fed])


@pytest.mark.usefixtures("board")
def test_features_for_another_stage_are_refused(engine: Engine) -> None:
    with opened(engine) as backend:
        _, following = backend.run(0, [backend.feed(frame(0.5))])

        with pytest.raises(EngineError, match="given to stage 2 of tiny are for stage 1"):
            backend.run(2, following)


def test_the_context_is_current_in_the_thread_that_enters_it_alone(
    board: Board, engine: Engine
) -> None:
    answers: list[list[float]] = []

    def serve() -> None:
        with opened(engine) as backend:
            answers.append(through(backend, 0.5))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()

    assert answers == [[1.0, 2.0, 3.0, 4.0]]
    assert board.is_clean


def test_two_engines_share_a_thread(board: Board, engine: Engine, tmp_path: Path) -> None:
    other = planned(manifest.load(tiny_engine(tmp_path / "other")), batches=(2,))

    with opened(engine) as first, opened(other) as second:
        _, waiting = first.run(0, [first.feed(frame(0.5))])
        assert through(second, 0.25) == [0.5, 1.0, 1.5, 2.0]
        logits, _ = first.run(1, waiting)

    assert logits[0, 2] == 2.0
    assert board.is_clean
