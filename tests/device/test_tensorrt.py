"""The real TensorRT: plans built here, run, and compared with ONNX Runtime."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance import manifest
from appliance.backends import choice
from appliance.backends.builds import is_strongly_typed
from appliance.backends.protocol import Backend
from appliance.engine import Engine, Precision
from appliance.modelling.calibration_frames import calibration_frames
from appliance.modelling.compile import Order, compile_engine

pytestmark = [pytest.mark.tensorrt, pytest.mark.timeout(1800)]

DIGITS = Path(__file__).parents[2] / "engines" / "digits"
BATCH = 8
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The digits engine with plans that were built here."""
    folder = tmp_path_factory.mktemp("engines") / "digits"
    shutil.copytree(DIGITS, folder)
    return compile_engine(manifest.load(folder), Order(batches=(1, BATCH)), print).engine


@pytest.fixture(scope="module")
def frames(engine: Engine) -> list[NDArray[Any]]:
    return calibration_frames(engine, None)[:BATCH]


def chain(backend: Backend, batch: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """The logits at each exit, for a batch that goes to the last."""
    features: Sequence[Any] = [backend.feed(frame) for frame in batch]
    answers = []
    for stage in range(4):
        logits, features = backend.run(stage, features)
        answers.append(logits)
    return answers


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


@pytest.mark.parametrize("count", [1, 3, BATCH])
def test_it_answers_as_onnx_runtime_does(
    engine: Engine, frames: list[NDArray[Any]], count: int
) -> None:
    with choice.opened(engine, "tensorrt") as backend:
        found = chain(backend, frames[:count])
    with choice.opened(engine, "onnx") as backend:
        wanted = chain(backend, frames[:count])

    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b)


def test_a_batch_that_shrinks_and_regroups_keeps_its_members_features(
    engine: Engine, frames: list[NDArray[Any]]
) -> None:
    with choice.opened(engine, "onnx") as backend:
        wanted = chain(backend, frames)

    with choice.opened(engine, "tensorrt") as backend:
        _, batch = backend.run(0, [backend.feed(frame) for frame in frames])
        _, urgent = backend.run(0, [backend.feed(frames[0])])
        _, later = backend.run(1, [batch[5], batch[1], batch[7]])
        found, _ = backend.run(1, [batch[0], urgent[0], batch[6]])
        last, _ = backend.run_through(2, 3, later)

    assert_close(found, wanted[1][[0, 0, 6]])
    assert_close(last, wanted[3][[5, 1, 7]])


def test_it_opens_and_closes_in_a_thread_of_its_own(
    engine: Engine, frames: list[NDArray[Any]]
) -> None:
    answers: list[NDArray[np.float32]] = []

    def serve() -> None:
        with choice.opened(engine, "tensorrt") as backend:
            answers.extend(chain(backend, frames[:1]))

    for _ in range(2):
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()

    assert len(answers) == 8
    assert_close(answers[7], answers[3])


def test_stages_run_as_graphs(
    engine: Engine, frames: list[NDArray[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), choice.opened(engine, "tensorrt") as backend:
        chain(backend, frames[:1])

    assert "without CUDA graphs" not in caplog.text


def test_int8_is_calibrated_and_within_its_tolerance(tmp_path: Path) -> None:
    version, _ = choice.here()
    if is_strongly_typed(version):
        pytest.skip(f"TensorRT {version} has no calibrator")
    shutil.copytree(DIGITS, tmp_path / "digits")
    order = Order(precision=Precision.INT8, batches=(1,), tolerance=0.25)

    compiled = compile_engine(manifest.load(tmp_path / "digits"), order, print)

    assert min(error.agreement for error in compiled.errors) > 0.9
