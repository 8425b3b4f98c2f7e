"""An engine whose one stage raises, hangs or answers NaN, as its frame asks for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance import manifest
from appliance.engine import Engine, InputSpec, Kind, Latency, Stage

NAME = "faulty"
SHAPE = (1, 4, 4)
ITERATIONS = 500_000
"""How often the loop goes round for each thousand of a frame's mean."""

FOR_EVER = 10**15

WELL, NAN, RAISES, HANGS = 0.5, -1.0, 10.0, 10_000.0
"""What a frame is filled with to be answered, or to bring a fault about."""


def faulty_engine(folder: Path, *, endless: bool = False) -> None:
    """Writes the engine folder. The logits are mean(input) * (0, 1, 2), for means from 0 to 9.

    Below 0 they are NaN (the logarithm of a negative number). A tenth of the mean is taken for a
    place to gather from, and from 10 to 999 there is none. For every 1000 the stage goes round a
    loop many times; where it is `endless`, for every frame.
    """
    folder.mkdir(parents=True)
    onnx.save(_model(endless=endless), folder / "stage0.onnx")
    stage = Stage(
        onnx=folder / "stage0.onnx",
        accuracy=0.9,
        flops=1e6,
        energy_j=0.01,
        latency={1: Latency(p50_s=0.001, p95_s=0.001)},
    )
    engine = Engine(
        name=NAME,
        kind=Kind.IMAGE,
        input=InputSpec(shape=SHAPE),
        labels=("dark", "dim", "bright"),
        stages=(stage,),
        folder=folder,
    )
    manifest.save(engine, folder)


def frame(mean: float) -> bytes:
    """A frame for it, as NPY."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((1, *SHAPE), mean, np.float32))
    return buffer.getvalue()


def _model(*, endless: bool) -> onnx.ModelProto:
    constants = {
        "axes": np.array([0, 1, 2, 3]),
        "zero": np.array(0.0, np.float32),
        "ten": np.array(10.0, np.float32),
        "thousand": np.array(1000.0, np.float32),
        "hundred": np.array(100),
        "iterations": np.array(ITERATIONS),
        "besides": np.array(FOR_EVER if endless else 0),
        "goes_on": np.array(True),
        "ones": np.ones(1, np.float32),
        "row": np.array([-1, 1]),
        "weights": np.array([[0.0, 1.0, 2.0]], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        node("Div", ["mean", "thousand"], ["thousandth"]),
        node("Cast", ["thousandth"], ["thousands"], to=TensorProto.INT64),
        node("Mul", ["thousands", "iterations"], ["asked_for"]),
        node("Add", ["asked_for", "besides"], ["rounds"]),
        node("Loop", ["rounds", "goes_on", "mean"], ["looped"], body=_body()),
        node("Div", ["looped", "ten"], ["tenth"]),
        node("Cast", ["tenth"], ["tens"], to=TensorProto.INT64),
        node("Mod", ["tens", "hundred"], ["place"]),
        node("Gather", ["ones", "place"], ["one"]),
        node("Log", ["looped"], ["logarithm"]),
        node("Mul", ["logarithm", "zero"], ["nothing"]),
        node("Mul", ["looped", "one"], ["gathered"]),
        node("Add", ["gathered", "nothing"], ["safe"]),
        node("Reshape", ["safe", "row"], ["means"]),
        node("MatMul", ["means", "weights"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stage",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *SHAPE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])],
        initializer=[numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _body() -> onnx.GraphProto:
    """One round of the loop: nothing but the time that it takes."""
    scalar = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on_in"], ["goes_on_out"]),
            helper.make_node("Identity", ["mean_in"], ["mean_out"]),
        ],
        "round",
        [
            scalar("number", TensorProto.INT64, []),
            scalar("goes_on_in", TensorProto.BOOL, []),
            scalar("mean_in", TensorProto.FLOAT, []),
        ],
        [scalar("goes_on_out", TensorProto.BOOL, []), scalar("mean_out", TensorProto.FLOAT, [])],
    )


def endless_to_open(folder: Path, *, rounds: int = 60, size: int = 3000) -> None:
    """Writes an engine whose opening takes minutes: ONNX Runtime works its constants out first."""
    faulty_engine(folder)
    model = _model(endless=False)
    column = numpy_helper.from_array(np.full((size, 1), 1e-4, np.float32), "folded0")
    row = numpy_helper.from_array(np.ones((1, size), np.float32), "row_of_ones")
    model.graph.initializer.extend([column, row])
    products = [helper.make_node("MatMul", ["folded0", "row_of_ones"], ["folded1"])]
    products += [
        helper.make_node("MatMul", [f"folded{number}", "folded1"], [f"folded{number + 1}"])
        for number in range(1, rounds)
    ]
    products += [
        helper.make_node("ReduceMean", [f"folded{rounds}"], ["folded"], keepdims=0),
        helper.make_node("Mul", ["folded", "zero"], ["folded_away"]),
        helper.make_node("Add", ["unshifted", "folded_away"], ["output"]),
    ]
    model.graph.node[-1].output[0] = "unshifted"
    model.graph.node.extend(products)
    onnx.save(model, folder / "stage0.onnx")
