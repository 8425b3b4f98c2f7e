"""A network of one convolution and a classifier: so small that the way to it is what costs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from appliance import frames, manifest
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine, InputSpec, Kind, Stage


def direct(engine: Engine, backend: OnnxBackend, frame: bytes) -> NDArray[Any]:
    """Decodes a frame and runs the stage, with nothing in between; its output, shape (1, 10)."""
    tensor = frames.decode(frame, None, engine.input, engine.kind)
    output, _ = backend.run(0, [backend.feed(tensor)])
    return output


def small_engine(folder: Path, shape: tuple[int, ...]) -> Engine:
    """One stage of a convolution and a classifier."""
    folder.mkdir(parents=True)
    onnx.save(_network(shape), folder / "stage0.onnx")
    engine = Engine(
        name=folder.name,
        kind=Kind.IMAGE,
        input=InputSpec(shape=shape),
        labels=(),
        stages=(Stage(onnx=folder / "stage0.onnx"),),
        folder=folder,
    )
    manifest.save(engine, folder)
    return manifest.load(folder)


def _network(shape: tuple[int, ...]) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "kernel": rng.standard_normal((8, 3, 7, 7), np.float32),
        "classifier": rng.standard_normal((8, 10), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["a"], strides=[4, 4], pads=[3, 3, 3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "classifier"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])],
        initializer=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tensor_frame(shape: tuple[int, ...]) -> bytes:
    """Random floats as NPY, with a batch axis of one."""
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).random((1, *shape), np.float32))
    return buffer.getvalue()
