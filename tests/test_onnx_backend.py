"""Stages on ONNX Runtime: alone, in a batch, and broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.engine import InputSpec
from appliance.errors import EngineError
from tests.engines import tiny_engine


def frame(value: float) -> NDArray[np.float32]:
    return np.full((1, 1, 8, 8), value, np.float32)


def test_features_go_from_stage_to_stage_and_the_last_has_none(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))

    with OnnxBackend(engine, threads=1) as backend:
        features = backend.feed(frame(0.5))
        answers = []
        for stage in range(4):
            logits, following = backend.run(stage, [features])
            answers.append(logits[0].tolist())
            features = following[0] if following else None

    assert answers == [[0.0, scale * 0.5, scale * 1.0] for scale in (1, 2, 3, 4)]
    assert features is None


@pytest.mark.parametrize("fixed_batch", [False, True])
def test_a_batch_answers_as_its_items_do_alone(tmp_path: Path, fixed_batch: bool) -> None:  # noqa: FBT001
    engine = manifest.load(tiny_engine(tmp_path / "tiny", fixed_batch=fixed_batch))

    with OnnxBackend(engine, threads=1) as backend:
        batch = [backend.feed(frame(value)) for value in (0.0, 0.5, 1.0)]
        first, following = backend.run(0, batch)
        second, _ = backend.run(1, following[1:])

    assert first[:, 2].tolist() == [0.0, 1.0, 2.0]
    assert second[:, 2].tolist() == [2.0, 4.0]


def test_one_items_answer_and_features_outlive_the_stages_next_run(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))

    with OnnxBackend(engine, threads=1) as backend:
        first, of_the_first = backend.run(0, [backend.feed(frame(0.25))])
        backend.run(0, [backend.feed(frame(1.0))])
        second, _ = backend.run(1, of_the_first)

    assert (first[0, 2], second[0, 2]) == (0.5, 1.0)


def test_a_stage_that_cannot_run_is_an_engine_error_that_names_it(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))

    with OnnxBackend(engine, threads=1) as backend:
        wrong = backend.feed(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(EngineError, match="stage 0 of tiny"):
            backend.run(0, [wrong])


def test_an_answer_that_is_no_row_of_logits_is_an_engine_error(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny", accuracies=(0.5,))
    model = onnx.load(folder / "stage0.onnx")
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Identity", ["mean"], ["output"]))
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    onnx.save(model, folder / "stage0.onnx")

    with (
        OnnxBackend(manifest.load(folder), threads=1) as backend,
        pytest.raises(EngineError, match="must be a row of logits"),
    ):
        backend.run(0, [backend.feed(frame(0.5))])


def test_a_file_that_is_no_onnx_is_an_engine_error_that_names_it(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    (folder / "stage2.onnx").write_bytes(b"nonsense")

    with (
        pytest.raises(EngineError, match=r"stage2\.onnx cannot be opened"),
        OnnxBackend(manifest.load(folder), threads=1),
    ):
        pass


def test_tensors_with_other_names_are_an_engine_error(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    model = onnx.load(folder / "stage0.onnx")
    last = next(node for node in model.graph.node if node.output[0] == "output")
    model.graph.output[0].name = last.output[0] = "logits"
    onnx.save(model, folder / "stage0.onnx")

    with (
        pytest.raises(EngineError, match="they must be named input -> output, features"),
        OnnxBackend(manifest.load(folder), threads=1),
    ):
        pass


def test_a_stage_that_does_not_take_what_the_one_before_gives_is_an_engine_error(
    tmp_path: Path,
) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    other = tiny_engine(tmp_path / "other", shape=(1, 4, 4))
    (other / "stage1.onnx").replace(folder / "stage1.onnx")

    with (
        pytest.raises(EngineError, match=r"stage1\.onnx takes .*4, 4.* stage 0 gives .*8, 8"),
        OnnxBackend(manifest.load(folder), threads=1),
    ):
        pass


def test_a_first_stage_that_does_not_take_the_engines_input_is_an_engine_error(
    tmp_path: Path,
) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))

    with (
        pytest.raises(EngineError, match=r"stage0\.onnx takes .* the engine's input has"),
        OnnxBackend(replace(engine, input=InputSpec(shape=(3, 8, 8))), threads=1),
    ):
        pass


def test_a_fixed_batch_of_several_is_an_engine_error(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny", accuracies=(0.5,))
    model = onnx.load(folder / "stage0.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, folder / "stage0.onnx")

    with (
        pytest.raises(EngineError, match="batches of 4 alone"),
        OnnxBackend(manifest.load(folder), threads=1),
    ):
        pass


def test_a_stage_without_an_onnx_file_is_an_engine_error(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))
    stages = (replace(engine.stages[0], onnx=None), *engine.stages[1:])

    with (
        pytest.raises(EngineError, match="stage 0 of tiny has no ONNX file"),
        OnnxBackend(replace(engine, stages=stages)),
    ):
        pass
