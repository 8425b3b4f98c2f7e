"""The engine that fails on demand, by the backend that the appliance runs it with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance import frames, manifest
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine
from appliance.errors import EngineError
from tests.faults.faulty_engine import NAN, RAISES, WELL, faulty_engine, frame


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    faulty_engine(tmp_path / "faulty")
    return manifest.load(tmp_path / "faulty")


@pytest.fixture
def backend(engine: Engine) -> Iterator[OnnxBackend]:
    with OnnxBackend(engine, threads=1) as backend:
        yield backend


def logits(engine: Engine, backend: OnnxBackend, mean: float) -> NDArray[np.float32]:
    tensor = frames.decode(frame(mean), None, engine.input, engine.kind)
    output, _ = backend.run(0, [backend.feed(tensor)])
    return output


def test_an_ordinary_frame_is_answered(engine: Engine, backend: OnnxBackend) -> None:
    assert logits(engine, backend, WELL).tolist() == [[0.0, 0.5, 1.0]]


def test_a_frame_can_make_it_answer_nan(engine: Engine, backend: OnnxBackend) -> None:
    assert np.isnan(logits(engine, backend, NAN)).all()


def test_a_frame_can_make_it_raise(engine: Engine, backend: OnnxBackend) -> None:
    with pytest.raises(EngineError, match="out of data bounds"):
        logits(engine, backend, RAISES)


def test_a_frame_that_goes_round_the_loop_is_answered_in_the_end(
    engine: Engine, backend: OnnxBackend
) -> None:
    assert logits(engine, backend, 1000.0).tolist() == [[0.0, 1000.0, 2000.0]]
