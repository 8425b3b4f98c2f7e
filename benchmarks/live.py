"""The executor's threads at work on real stages, and requests that come at their times."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.backends.onnx import OnnxBackend
from appliance.dispatcher import Dispatcher
from appliance.engine import Engine, InputSpec, Kind, Latency, Stage
from appliance.errors import Code
from appliance.executor import Executor
from appliance.loop import ExecutorLoop
from appliance.messages import Request
from appliance.plan import Plan
from appliance.task import Task
from benchmarks.loads import ACCURACIES, Outcome
from benchmarks.resnet import SHAPE, export_resnet50

WARM_UP_RUNS = 20
PATIENCE_S = 30.0


@contextmanager
def resnet50_on_disk() -> Iterator[Engine]:
    """A ResNet-50 of random weights with the accuracies of Dělen's, for which a file is made."""
    with tempfile.TemporaryDirectory() as folder:
        paths, _ = export_resnet50(Path(folder))
        yield Engine(
            name="resnet50",
            kind=Kind.TENSOR,
            input=InputSpec(shape=SHAPE),
            labels=(),
            stages=tuple(
                Stage(onnx=path, accuracy=accuracy)
                for path, accuracy in zip(paths, ACCURACIES, strict=True)
            ),
            folder=Path(folder),
        )


def stage_times_s(engine: Engine, backend: OnnxBackend, runs: int = 30) -> list[float]:
    """The median time of each stage here and now, in seconds."""
    frame = _noise(engine)
    taken: list[list[float]] = [[] for _ in engine.stages]
    for run in range(runs + 3):
        features = backend.feed(frame)
        for stage in range(len(engine.stages)):
            started_s = time.perf_counter()
            _, following = backend.run(stage, [features])
            if run >= 3:
                taken[stage].append(time.perf_counter() - started_s)
            features = following[0] if following else None
    return [float(np.median(times_s)) for times_s in taken]


def profiled(engine: Engine, times_s: Sequence[float]) -> Engine:
    """The engine with these stage times for its profile."""
    stages = tuple(
        replace(stage, latency={1: Latency(p50_s=time_s, p95_s=time_s * 1.1)})
        for stage, time_s in zip(engine.stages, times_s, strict=True)
    )
    return replace(engine, stages=stages)


def play_live(  # noqa: PLR0913 - what is served, and how much of it
    engine: Engine,
    backend: OnnxBackend,
    plans: Mapping[str, Plan],
    arrivals: Sequence[tuple[float, str]],
    *,
    frames: Sequence[NDArray[Any]] = (),
    see: Callable[[Task], None] = lambda _task: None,
    warm_up: bool = True,
) -> dict[str, Outcome]:
    """Requests through the executor's own threads; the backend is left open.

    Request number n has frame n, over and over, or noise where there are none. `see` is shown
    each answered task, whose request has its number for an id.
    """
    outcomes = {
        tenant: Outcome(bound_s=plan.policy.bounds.response_time or 0.0)
        for tenant, plan in plans.items()
    }
    dealt_with = threading.Semaphore(0)

    def finished(task: Task) -> None:
        outcome = outcomes[task.request.tenant]
        if task.metrics is not None:
            outcome.exits.append(task.metrics.exit)
            outcome.response_times_s.append(task.metrics.response_time)
            see(task)
        dealt_with.release()

    def rejected(task: Task, _code: Code, _detail: str) -> None:
        outcomes[task.request.tenant].rejected += 1
        dealt_with.release()

    executor = Executor(time.monotonic)
    executor.add(engine, backend)
    if warm_up:
        executor.warm_up(engine, runs=WARM_UP_RUNS)
    dispatcher = Dispatcher(
        executor=executor,
        clock=time.monotonic,
        finished=finished,
        rejected=rejected,
        unaffordable=lambda task, _balance: rejected(task, Code.TOO_MANY, ""),
        failed=lambda _engine, _error: None,
    )
    loop = ExecutorLoop(
        dispatcher=dispatcher, tenancy=executor.tenancy, clock=time.monotonic, tick=lambda: None
    )
    with loop:
        _send(loop.submit, plans, outcomes, arrivals, frames or [_noise(engine)])
        for _ in arrivals:
            if not dealt_with.acquire(timeout=PATIENCE_S):
                raise TimeoutError("a request was not dealt with")
    return outcomes


def _noise(engine: Engine) -> NDArray[Any]:
    return np.random.default_rng(0).random((1, *engine.input.shape), np.float32)


def _send(
    submit: Callable[[Task], None],
    plans: Mapping[str, Plan],
    outcomes: Mapping[str, Outcome],
    arrivals: Sequence[tuple[float, str]],
    frames: Sequence[NDArray[Any]],
) -> None:
    started_s = time.monotonic()
    for number, (at_s, tenant) in enumerate(arrivals):
        time.sleep(max(0.0, started_s + at_s - time.monotonic()))
        now_s = time.monotonic()
        request = Request(
            id=str(number),
            tenant=tenant,
            stream=None,
            received_s=now_s,
            arrived_at_s=now_s,
            reply_topic="",
        )
        outcomes[tenant].requests += 1
        frame = frames[number % len(frames)]
        submit(Task(request=request, plan=plans[tenant], features=frame))


def play_live_fifo(
    engine: Engine,
    backend: OnnxBackend,
    bounds_s: Mapping[str, float],
    arrivals: Sequence[tuple[float, str]],
) -> dict[str, Outcome]:
    """Dělen's discipline on the same stages: first come, run until the bound is found broken."""
    outcomes = {tenant: Outcome(bound_s=bound_s) for tenant, bound_s in bounds_s.items()}
    frame = _noise(engine)
    started_s = time.monotonic()
    for at_s, tenant in arrivals:
        outcome, arrived_s = outcomes[tenant], started_s + at_s
        time.sleep(max(0.0, arrived_s - time.monotonic()))
        features = backend.feed(frame)
        for exit_ in range(len(engine.stages)):
            _, following = backend.run(exit_, [features])
            response_time_s = time.monotonic() - arrived_s
            if response_time_s > outcome.bound_s or not following:
                break
            features = following[0]
        outcome.requests += 1
        outcome.exits.append(exit_)
        outcome.response_times_s.append(response_time_s)
    return outcomes
