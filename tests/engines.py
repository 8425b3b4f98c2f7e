"""Small multi-exit engines on disk, whose answers can be foretold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from appliance import manifest
from appliance.engine import Engine, InputSpec, Kind, Latency, Stage

CLASSES = 3


def tiny_engine(
    folder: Path,
    *,
    name: str = "tiny",
    shape: tuple[int, ...] = (1, 8, 8),
    accuracies: Sequence[float | None] = (0.5, 0.7, 0.8, 0.9),
    energies_j: Sequence[float | None] = (0.01, 0.02, 0.03, 0.04),
    latencies_s: Sequence[float | None] = (0.001, 0.001, 0.001, 0.001),
    kind: Kind = Kind.IMAGE,
    fixed_batch: bool = False,
    breaks_at: float = 1e6,
) -> Path:
    """An engine folder with one exit per accuracy; the deeper the exit, the surer the answer.

    The logits at exit i are (i + 1) * mean(input) * (0, 1, 2): class 2 for a bright input, all
    alike for a black one. The features are the input itself. For an input whose mean is
    `breaks_at` or more the stages raise.
    """
    folder.mkdir(parents=True)
    stages = []
    for number, accuracy in enumerate(accuracies):
        path = folder / f"stage{number}.onnx"
        last = number == len(accuracies) - 1
        model = _stage(
            shape, scale=number + 1.0, last=last, fixed_batch=fixed_batch, breaks_at=breaks_at
        )
        onnx.save(model, path)
        latency_s = latencies_s[number]
        stages.append(
            Stage(
                onnx=path,
                accuracy=accuracy,
                flops=1e6,
                energy_j=energies_j[number],
                latency={} if latency_s is None else {1: Latency(p50_s=latency_s, p95_s=latency_s)},
            )
        )
    engine = Engine(
        name=name,
        kind=kind,
        input=InputSpec(shape=shape),
        labels=("dark", "dim", "bright"),
        stages=tuple(stages),
        folder=folder,
    )
    manifest.save(engine, folder)
    return folder


def widening_engine(folder: Path) -> Path:
    """A tiny engine whose features are the input twice, one below the other."""
    tiny_engine(folder)
    for number in range(4):
        path = folder / f"stage{number}.onnx"
        last = number == 3
        model = _stage((2 if number else 1, 8, 8), scale=number + 1.0, last=last, fixed_batch=False)
        if number == 0:
            model.graph.node.pop()
            model.graph.node.append(
                helper.make_node("Concat", ["input", "input"], ["features"], axis=1)
            )
            model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 2
        onnx.save(model, path)
    return folder


def seed_engine(folder: Path, profile: Sequence[dict[str, float]], *, place: str = "trt") -> Path:
    """A folder in Dělen's own layout, with ONNX stages in place of its engines."""
    (folder / place).mkdir(parents=True)
    for number in range(len(profile)):
        model = _stage((3, 8, 8), scale=1.0, last=number == len(profile) - 1, fixed_batch=True)
        onnx.save(model, folder / place / f"{folder.name}_net{number}.onnx")
    (folder / f"{folder.name}_profile.json").write_text(json.dumps(profile))
    return folder


def _stage(
    shape: tuple[int, ...],
    *,
    scale: float,
    last: bool,
    fixed_batch: bool,
    breaks_at: float = 1e6,
) -> onnx.ModelProto:
    batch = 1 if fixed_batch else "N"
    weights = numpy_helper.from_array(
        np.array([[0.0, scale, 2.0 * scale]], np.float32), name="weights"
    )
    axes = numpy_helper.from_array(np.arange(1, len(shape) + 1), name="axes")
    column = numpy_helper.from_array(np.array([-1, 1]), name="column")
    limit = numpy_helper.from_array(np.array(breaks_at, np.float32), name="limit")
    ones = numpy_helper.from_array(np.ones(1, np.float32), name="ones")
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        # There is a place 0 alone to gather from.
        helper.make_node("Div", ["mean", "limit"], ["place"]),
        helper.make_node("Cast", ["place"], ["whole_place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["ones", "whole_place"], ["one"]),
        helper.make_node("Mul", ["mean", "one"], ["safe_mean"]),
        helper.make_node("Reshape", ["safe_mean", "column"], ["means"]),
        helper.make_node("MatMul", ["means", "weights"], ["output"]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, CLASSES])]
    if not last:
        nodes.append(helper.make_node("Identity", ["input"], ["features"]))
        outputs.append(
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, *shape])
        )
    graph = helper.make_graph(
        nodes,
        "stage",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, *shape])],
        outputs,
        initializer=[weights, axes, column, limit, ones],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
