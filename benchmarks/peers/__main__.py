"""The same network and frames over MQTT and by other servers: one at a time, and as they come."""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.backends.onnx import OnnxBackend
from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.engine import Engine
from appliance.messages import Result
from appliance.session import Session
from benchmarks.peers.environment import UnavailableError
from benchmarks.peers.server import PEERS, Connection, Peer, running
from benchmarks.report import Finding, report, tell
from benchmarks.rig import Requester, running_appliance
from benchmarks.small import direct, small_engine, tensor_frame

SHAPE = (3, 224, 224)
"""602 kB of floats."""

BLOCKS, BLOCK = 15, 20
"""Requests go out in blocks, a block to each in turn, so that the machine's moods meet all."""

RATE_HZ, POISSON_REQUESTS, POISSON_BLOCKS, SEED = 40.0, 100, 3, 0
CONNECTIONS = 16
"""How many requests may be on their way to a peer at a time."""

TENANT = "bench"
US, DIRECT = "delen", "direct"

Call = Callable[[], object]


def measure() -> Finding:
    with tempfile.TemporaryDirectory() as name, ExitStack() as parts:
        folder = Path(name)
        frame = tensor_frame(SHAPE)
        engine = small_engine(folder / "engines" / "net", SHAPE)
        backend = parts.enter_context(OnnxBackend(engine, threads=1))
        expected = np.ravel(direct(engine, backend, frame))
        calls: dict[str, Call] = {DIRECT: lambda: direct(engine, backend, frame)}
        calls[US] = parts.enter_context(_asking_us(folder, frame, expected))
        missing: dict[str, str] = {}
        for peer in PEERS:
            tell(f"peers: {peer.name}: installing where it is not, and starting")
            try:
                asking = _asking(peer, engine, folder, frame, expected)
                calls[peer.name] = parts.enter_context(asking)
            except UnavailableError as error:
                tell(f"peers: {peer.name}: {error}")
                missing[peer.name] = str(error)
        closed_ms = _closed_loop(calls)
        poisson_ms = _poisson(calls)
    return _finding(closed_ms, poisson_ms, missing)


def _finding(
    closed_ms: Mapping[str, list[float]],
    poisson_ms: Mapping[str, list[float]],
    missing: Mapping[str, str],
) -> Finding:
    direct_ms = statistics.median(closed_ms[DIRECT])
    added_ms = {
        name: statistics.median(taken_ms) - direct_ms
        for name, taken_ms in closed_ms.items()
        if name != DIRECT
    }
    others_ms = [added for name, added in added_ms.items() if name != US]
    return Finding(
        name="peers",
        figure=round(added_ms[US], 3),
        unit="ms added to a direct call (p50, 602 kB)",
        goal="less than every peer adds",
        met=bool(others_ms) and added_ms[US] < min(others_ms),
        measured={
            "direct_p50_ms": round(direct_ms, 3),
            "added_p50_ms": {name: round(added, 3) for name, added in added_ms.items()},
            "closed_loop_ms": {name: _percentiles(taken) for name, taken in closed_ms.items()},
            "poisson_ms": {name: _percentiles(taken) for name, taken in poisson_ms.items()},
            "poisson_requests_per_s": RATE_HZ,
            "not_measured": dict(missing),
            "versions": {peer.name: _pins(peer) for peer in PEERS if peer.name not in missing},
            "requests_of_each": BLOCKS * BLOCK,
            "threads": 1,
            "network": "a convolution and a classifier, 1x3x224x224 floats",
        },
    )


def _percentiles(taken_ms: list[float]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(taken_ms, (50, 90, 99))
    return {"p50": round(p50, 3), "p90": round(p90, 3), "p99": round(p99, 3)}


def _pins(peer: Peer) -> str:
    lines = peer.requirements.read_text().splitlines()
    return next(line for line in lines if f"{peer.name}==" in line)


@contextmanager
def _asking_us(folder: Path, frame: bytes, expected: NDArray[Any]) -> Iterator[Call]:
    """A call that asks an appliance over MQTT and waits for its reply."""
    policy = f"tenant: {TENANT}\nversion: 1\nengine: net\nexit_when: exit >= 0\n"
    topic = f"delen/v1/{TENANT}/request"
    engines = folder / "engines"
    with (
        Mosquitto(folder=folder / "broker") as broker,
        running_appliance(broker, folder, engines=engines, policies={TENANT: policy}),
        Requester(broker, f"delen/v1/{TENANT}/result/me") as requester,
    ):
        _check_us(broker, frame, expected)
        yield lambda: requester.round_trip_s(topic, frame)


def _check_us(broker: Mosquitto, frame: bytes, expected: NDArray[Any]) -> None:
    with Session(BrokerAddress(host=broker.host, port=broker.port)) as client:
        reply = client.infer(TENANT, frame)
    if not isinstance(reply, Result) or reply.index != int(expected.argmax()):
        raise RuntimeError(f"the appliance answers something else than a direct call: {reply}")


@contextmanager
def _asking(
    peer: Peer, engine: Engine, folder: Path, frame: bytes, expected: NDArray[Any]
) -> Iterator[Call]:
    """A call that asks a peer over HTTP, on a connection of the calling thread's own."""
    network = engine.stages[0].onnx
    if network is None:
        raise RuntimeError("the small engine has one stage, of ONNX")
    request = peer.protocol.ask(frame)
    local = threading.local()
    opened: list[Connection] = []

    with running(peer, network.resolve(), folder) as port:

        def call() -> tuple[bytes, Mapping[str, str]]:
            if not hasattr(local, "connection"):
                local.connection = Connection(port)
                opened.append(local.connection)
            connection: Connection = local.connection
            return connection.post(request)

        try:
            _check(peer, call, expected)
            yield call
        finally:
            for connection in opened:
                connection.close()


def _check(
    peer: Peer, call: Callable[[], tuple[bytes, Mapping[str, str]]], expected: NDArray[Any]
) -> None:
    """Asks once. Raises UnavailableError where that fails, or is not what a direct call gives."""
    try:
        output = peer.protocol.read(*call())
    except (OSError, RuntimeError, HTTPException) as error:
        raise UnavailableError(f"does not answer: {error}") from error
    if not np.allclose(output, expected, rtol=1e-4):
        raise UnavailableError(f"answers {output} where a direct call gives {expected}")


def _closed_loop(calls: Mapping[str, Call]) -> dict[str, list[float]]:
    """One request after the other's reply; milliseconds."""
    taken_ms: dict[str, list[float]] = {name: [] for name in calls}
    for block in range(BLOCKS + 1):
        tell(f"peers: block {block} of {BLOCKS}")
        for name, call in calls.items():
            for _ in range(BLOCK):
                started_s = time.perf_counter()
                call()
                if block:  # the first warms up
                    taken_ms[name].append((time.perf_counter() - started_s) * 1e3)
    return taken_ms


def _poisson(calls: Mapping[str, Call]) -> dict[str, list[float]]:
    """Requests at random times, the same for all; milliseconds from those times to the replies."""
    taken_ms: dict[str, list[float]] = {name: [] for name in calls}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for block in range(POISSON_BLOCKS):
            for name, call in calls.items():
                tell(f"peers: {name}, {RATE_HZ:g} requests a second, block {block + 1}")
                taken_ms[name] += _poisson_block(call, pool, seed=SEED + block)
    return taken_ms


def _poisson_block(call: Call, pool: ThreadPoolExecutor, *, seed: int) -> list[float]:
    chance = random.Random(seed)

    def timed(due_s: float) -> float:
        call()
        return (time.perf_counter() - due_s) * 1e3

    due_s = time.perf_counter()
    waiting = []
    for _ in range(POISSON_REQUESTS):
        due_s += chance.expovariate(RATE_HZ)
        time.sleep(max(0.0, due_s - time.perf_counter()))
        waiting.append(pool.submit(timed, due_s))
    return [one.result() for one in waiting]


if __name__ == "__main__":
    report(measure())
