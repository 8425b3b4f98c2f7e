"""Weights beside an ONNX file: from its engine's folder, and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.errors import EngineError
from appliance.external_weights import locations, refuse_strays
from tests.engines import seed_engine, tiny_engine


def a_tensor(location: str, name: str = "weights") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def a_model() -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([], "stage", [], []))


def written(path: Path, location: str) -> Path:
    model = a_model()
    model.graph.initializer.append(a_tensor(location))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An engine's folder with weights in it, a secret beside it, and ways that lead there."""
    folder = tmp_path / "engine"
    (folder / "onnx").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(16))
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "onnx/../weights.bin"])
def test_weights_in_the_folder_are_taken(folder: Path, location: str) -> None:
    refuse_strays(written(folder / "stage0.onnx", location), folder)


def test_a_stage_in_a_folder_of_its_own_may_share_weights_of_its_engine(folder: Path) -> None:
    refuse_strays(written(folder / "onnx" / "stage0.onnx", "../weights.bin"), folder)


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin", "{tmp}/secret.bin", "/etc/passwd", "/proc/self/mem", "link.bin",
        "up/secret.bin", "pipe", "missing.bin", "", ".", "weights.bin\0", "x" * 5000,
        "onnx/../../secret.bin", "*/_ORT_MEM_ADDR_/*",
    ],
)  # fmt: skip
def test_weights_from_elsewhere_are_refused(folder: Path, tmp_path: Path, location: str) -> None:
    path = written(folder / "stage0.onnx", location.format(tmp=tmp_path))

    with pytest.raises(EngineError, match=r"takes weights from .*put them beside it"):
        refuse_strays(path, folder)


def test_a_backend_refuses_them_before_anything_is_opened(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))
    written(tmp_path / "tiny" / "stage2.onnx", "/proc/self/mem")

    with pytest.raises(EngineError, match="takes weights from '/proc/self/mem'"):
        OnnxBackend(engine, threads=1)


def test_an_older_layouts_first_stage_is_not_opened_either(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "seed", [{"accuracy": 0.5}])
    (stage,) = folder.rglob("*.onnx")
    written(stage, "/proc/self/mem")

    with pytest.raises(EngineError, match="takes weights from '/proc/self/mem'"):
        manifest.load(folder)


def test_the_last_word_of_several_does_not_hide_the_others() -> None:
    model = a_model()
    tensor = a_tensor("first")
    tensor.external_data.add(key="location", value="second")
    model.graph.initializer.append(tensor)

    assert sorted(locations(model.SerializeToString())) == [b"first", b"second"]


def test_a_tag_that_is_written_too_long_is_read_as_others_read_it() -> None:
    graph = onnx.GraphProto(initializer=[a_tensor("hidden")]).SerializeToString()
    size = bytes([0x80 | len(graph) & 0x7F, len(graph) >> 7])

    assert locations(b"\xba\x80\x80\x80\x70" + size + graph) == [b"hidden"]


@pytest.mark.parametrize("text", [b"", b"location", b"\x0b location", b"\x3a\xff\xff\x03location"])
def test_what_is_no_onnx_file_is_refused_or_has_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "stage0.onnx"
    path.write_bytes(text)

    if text:
        with pytest.raises(EngineError, match="cannot be read as an ONNX file"):
            refuse_strays(path, tmp_path)
    else:
        refuse_strays(path, tmp_path)


def test_every_place_of_a_tensor_in_onnx_is_looked_at() -> None:
    """Builds a model for each way through onnx.proto that leads to a tensor."""
    for way in ways(onnx.ModelProto.DESCRIPTOR, ()):
        model = onnx.ModelProto()
        message = model
        for name in way:
            field = message.DESCRIPTOR.fields_by_name[name]
            inner = getattr(message, name)
            message = inner.add() if field.is_repeated else inner
        message.CopyFrom(a_tensor("/".join(way)))

        assert locations(model.SerializeToString()) == ["/".join(way).encode()], way


def ways(
    kind: Descriptor, so_far: tuple[str, ...], seen: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    """The ways from a message to tensors in it, none of which passes a kind of message twice."""
    if kind.full_name == "onnx.TensorProto":
        return [so_far]
    found = []
    for field in kind.fields:
        inner = field.message_type
        if inner is not None and inner.full_name not in (*seen, kind.full_name):
            found += ways(inner, (*so_far, field.name), (*seen, kind.full_name))
    return found
