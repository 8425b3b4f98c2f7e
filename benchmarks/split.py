"""What cutting a network into stages costs, against the same network in one piece."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine, InputSpec, Kind, Stage
from benchmarks.report import Finding, report, tell
from benchmarks.resnet import SHAPE, export_resnet50

GOAL = 1.05
ROUNDS = 40


def measure() -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        tell("split: exporting a four-exit ResNet-50 with random weights")
        stages, whole = export_resnet50(Path(folder))
        engine = Engine(
            name="resnet50",
            kind=Kind.IMAGE,
            input=InputSpec(shape=SHAPE),
            labels=(),
            stages=tuple(Stage(onnx=path) for path in stages),
            folder=Path(folder),
        )
        frame = np.random.default_rng(0).random((1, *SHAPE), np.float32)
        undivided = _session(whole)
        with OnnxBackend(engine, threads=1) as backend:
            chained = _measure(lambda: _chain(backend, frame), lambda: _run(undivided, frame))
    chain_ms, whole_ms = chained
    ratios = [c / w for c, w in zip(chain_ms, whole_ms, strict=True)]
    ratio = statistics.median(ratios)
    return Finding(
        name="split",
        figure=round(ratio, 4),
        unit="times the undivided network",
        goal=f"<= {GOAL:g}",
        met=ratio <= GOAL,
        measured={
            "chain_of_four_stages_p50_ms": round(statistics.median(chain_ms), 3),
            "undivided_p50_ms": round(statistics.median(whole_ms), 3),
            "pairs": ROUNDS,
            "threads": 1,
            "network": "ResNet-50, four exits, random weights, 1x3x224x224, all heads computed",
        },
    )


def _measure(
    chain: Callable[[], object], whole: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Times both in turn, so that the machine's moods meet both; milliseconds."""
    chain_ms: list[float] = []
    whole_ms: list[float] = []
    for number in range(ROUNDS + 3):
        if number % 10 == 0:
            tell(f"split: {number} of {ROUNDS + 3} pairs")
        pair = [(chain, chain_ms), (whole, whole_ms)]
        for call, taken_ms in pair if number % 2 else reversed(pair):
            started_s = time.perf_counter()
            call()
            taken_ms.append((time.perf_counter() - started_s) * 1e3)
    return chain_ms[3:], whole_ms[3:]


def _chain(backend: OnnxBackend, frame: NDArray[np.float32]) -> None:
    features = backend.feed(frame)
    for stage in range(4):
        _, following = backend.run(stage, [features])
        features = following[0] if following else None


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, frame: NDArray[np.float32]) -> None:
    session.run(None, {"input": frame})


if __name__ == "__main__":
    report(measure())
