"""What the way from MQTT in to result out costs, beside a bare echo and a direct call."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from appliance import frames, manifest
from appliance.backends.onnx import OnnxBackend
from appliance.broker import Mosquitto
from appliance.engine import Engine, InputSpec, Kind, Stage
from benchmarks.report import Finding, report, tell
from benchmarks.rig import Requester, running_appliance, running_echo

ECHO_GOAL = 1.5
"""The way with a 150 kB frame, without decoding and stage: at most so many bare echoes."""

RAW_GOAL_MS = 3.3
"""What MQTT adds to a direct call with a 602 kB tensor, in milliseconds: at most this."""

REPLY_BYTES = 700
"""About what a result has."""

BLOCKS, BLOCK = 20, 20
"""Requests go out in blocks, a block of each kind in turn, so that the machine's moods meet all."""

OUTSTANDING = 8
LARGE, SMALL = (3, 224, 224), (3, 112, 112)


def measure() -> Finding:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines = {
            size: _engine(folder / "engines" / size, shape) for size, shape in _SHAPES.items()
        }
        policies = {size: _policy(size) for size in engines}
        with (
            Mosquitto(folder=folder / "broker") as broker,
            running_echo(broker, reply_bytes=REPLY_BYTES),
            running_appliance(broker, folder, engines=folder / "engines", policies=policies),
            Requester(broker, "delen/v1/small/result/me") as small,
            Requester(broker, "delen/v1/large/result/me") as large,
            OnnxBackend(engines["small"], threads=1) as small_backend,
            OnnxBackend(engines["large"], threads=1) as large_backend,
        ):
            time.sleep(1.0)  # the echo's process starts
            npy, raw, jpeg = _npy(SMALL), _npy(LARGE), _jpeg()
            calls: dict[str, Callable[[], object]] = {
                "echo_150kB": lambda: small.round_trip_s("echo/request", npy),
                "way_150kB_npy": lambda: small.round_trip_s("delen/v1/small/request", npy),
                "decode_and_stage_150kB_npy": lambda: _direct(engines["small"], small_backend, npy),
                "way_150kB_jpeg": lambda: small.round_trip_s("delen/v1/small/request", jpeg),
                "decode_and_stage_150kB_jpeg": lambda: _direct(
                    engines["small"], small_backend, jpeg
                ),
                "echo_602kB": lambda: large.round_trip_s("echo/request", raw),
                "way_602kB": lambda: large.round_trip_s("delen/v1/large/request", raw),
                "direct_602kB": lambda: _direct(engines["large"], large_backend, raw),
            }
            p50 = _medians_ms(calls)
            tell("roundtrip: throughput")
            per_second = small.per_second(
                "delen/v1/small/request", npy, outstanding=OUTSTANDING, requests=400
            )
    way_ms = p50["way_150kB_npy"] - p50["decode_and_stage_150kB_npy"]
    echoes = way_ms / p50["echo_150kB"]
    added_ms = p50["way_602kB"] - p50["direct_602kB"]
    return Finding(
        name="roundtrip",
        figure=round(echoes, 2),
        unit="bare echoes, beyond decoding and stage",
        goal=f"<= {ECHO_GOAL:g}, and <= {RAW_GOAL_MS:g} ms added to a direct call with 602 kB",
        met=echoes <= ECHO_GOAL and added_ms <= RAW_GOAL_MS,
        measured={
            "p50_ms": {name: round(value, 3) for name, value in p50.items()},
            "added_to_direct_call_602kB_ms": round(added_ms, 3),
            "per_second_with_8_outstanding_150kB": round(per_second, 1),
            "requests_of_each_kind": BLOCKS * BLOCK,
            "qos": 1,
        },
    )


_SHAPES = {"small": SMALL, "large": LARGE}


def _medians_ms(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken_s: dict[str, list[float]] = {name: [] for name in calls}
    for block in range(BLOCKS + 1):
        tell(f"roundtrip: block {block} of {BLOCKS}")
        for name, call in calls.items():
            for _ in range(BLOCK):
                started_s = time.perf_counter()
                call()
                if block:  # the first warms up
                    taken_s[name].append(time.perf_counter() - started_s)
    return {name: statistics.median(values) * 1e3 for name, values in taken_s.items()}


def _direct(engine: Engine, backend: OnnxBackend, frame: bytes) -> None:
    """Decodes a frame and runs the stage, without anything in between."""
    tensor = frames.decode(frame, None, engine.input, engine.kind)
    backend.run(0, [backend.feed(tensor)])


def _policy(tenant: str) -> str:
    return f"tenant: {tenant}\nversion: 1\nengine: {tenant}\nexit_when: exit >= 0\n"


def _engine(folder: Path, shape: tuple[int, ...]) -> Engine:
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


def _npy(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).random((1, *shape), np.float32))
    return buffer.getvalue()


def _jpeg() -> bytes:
    """A frame of about 150 kB, 1280 by 720 pixels with some detail everywhere."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (120, 214, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((1280, 720), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


if __name__ == "__main__":
    report(measure())
