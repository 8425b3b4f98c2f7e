"""What the way from MQTT in to result out costs, beside a bare echo and a direct call."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from appliance.backends.onnx import OnnxBackend
from appliance.broker import Mosquitto
from appliance.engine import Engine
from benchmarks.report import Finding, report, tell
from benchmarks.rig import Requester, running_appliance, running_echo
from benchmarks.small import direct, small_engine, tensor_frame

ECHO_GOAL = 1.5
"""The way with a 150 kB frame, without decoding and stage: at most so many bare echoes."""

RAW_GOAL_MS = 3.3
"""What MQTT adds to a direct call with a 602 kB tensor, in milliseconds: at most this."""

REPLY_BYTES = 700
"""About what a result has."""

BLOCKS, BLOCK = 20, 20
"""Requests go out in blocks, a block of each kind in turn, so that the machine's moods meet all."""

OUTSTANDING = 8
TENANT, REQUEST_TOPIC, ECHO_TOPIC = "bench", "delen/v1/bench/request", "echo/request"
LARGE, SMALL = (3, 224, 224), (3, 112, 112)


def measure() -> Finding:
    # Each size has processes of its own: one that has held a larger frame keeps its memory, and
    # would be spared the page faults of the smaller ones.
    with tempfile.TemporaryDirectory() as name:
        p50, per_second = _measure_150_kb(Path(name))
    with tempfile.TemporaryDirectory() as name:
        p50 |= _measure_602_kb(Path(name))
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


def _measure_150_kb(folder: Path) -> tuple[dict[str, float], float]:
    """The median of each kind of call in milliseconds, and the requests answered per second."""
    npy, jpeg = tensor_frame(SMALL), _jpeg()
    with _serving(folder, SMALL) as (request, engine, backend):
        p50_ms = _medians_ms(
            {
                "echo_150kB": lambda: request.round_trip_s(ECHO_TOPIC, npy),
                "way_150kB_npy": lambda: request.round_trip_s(REQUEST_TOPIC, npy),
                "decode_and_stage_150kB_npy": lambda: direct(engine, backend, npy),
                "way_150kB_jpeg": lambda: request.round_trip_s(REQUEST_TOPIC, jpeg),
                "decode_and_stage_150kB_jpeg": lambda: direct(engine, backend, jpeg),
            }
        )
        tell("roundtrip: throughput")
        return p50_ms, request.per_second(REQUEST_TOPIC, npy, outstanding=OUTSTANDING, requests=400)


def _measure_602_kb(folder: Path) -> dict[str, float]:
    """The median of each kind of call in milliseconds."""
    raw = tensor_frame(LARGE)
    with _serving(folder, LARGE) as (request, engine, backend):
        return _medians_ms(
            {
                "echo_602kB": lambda: request.round_trip_s(ECHO_TOPIC, raw),
                "way_602kB": lambda: request.round_trip_s(REQUEST_TOPIC, raw),
                "direct_602kB": lambda: direct(engine, backend, raw),
            }
        )


@contextmanager
def _serving(
    folder: Path, shape: tuple[int, ...]
) -> Iterator[tuple[Requester, Engine, OnnxBackend]]:
    """Who asks a broker's echo and appliance, and the appliance's engine in this process."""
    engine = small_engine(folder / "engines" / "net", shape)
    policy = f"tenant: {TENANT}\nversion: 1\nengine: net\nexit_when: exit >= 0\n"
    with (
        Mosquitto(folder=folder / "broker") as broker,
        running_echo(broker, topic=ECHO_TOPIC, reply_bytes=REPLY_BYTES),
        running_appliance(broker, folder, engines=folder / "engines", policies={TENANT: policy}),
        Requester(broker, f"delen/v1/{TENANT}/result/me") as requester,
        OnnxBackend(engine, threads=1) as backend,
    ):
        yield requester, engine, backend


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


def _jpeg() -> bytes:
    """A frame of about 150 kB, 1280 by 720 pixels with some detail everywhere."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (120, 214, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((1280, 720), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


if __name__ == "__main__":
    report(measure())
