"""`delen run`: an engine run in this process under one set of conditions after the other."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from appliance import frames, manifest
from appliance.backends import choice
from appliance.cli.backend_option import BackendOption
from appliance.conditions import Condition, in_seed_units
from appliance.document import parse_document
from appliance.engine import Engine
from appliance.errors import Faulty, InvalidDocument
from appliance.executor import Executor
from appliance.messages import Request
from appliance.plan import Plan, compile_plan
from appliance.policy import Policy, parse_exit_when, read_policy
from appliance.task import Task

TENANT = "run"
WARM_UP_RUNS = 16
MAX_FRAMES = 256


@dataclass(kw_only=True)
class Tally:
    """What one set of conditions came to."""

    conditions: str
    exits: dict[int, int]
    response_times_s: list[float] = field(default_factory=list)

    def take(self, task: Task) -> tuple[int, float]:
        """Counts a finished task; its exit and its response time in seconds."""
        if task.metrics is None:
            raise ValueError("the task has not run")
        self.exits[task.metrics.exit] += 1
        self.response_times_s.append(task.metrics.response_time)
        return task.metrics.exit, task.metrics.response_time

    def percentile_ms(self, percent: float) -> float | None:
        if not self.response_times_s:
            return None
        return round(float(np.percentile(self.response_times_s, percent)) * 1e3, 3)

    def findings(self) -> dict[str, Any]:
        return {
            "conditions": self.conditions,
            "tasks": len(self.response_times_s),
            "exits": {str(exit_): count for exit_, count in self.exits.items()},
            "response_time_ms": {f"p{p}": self.percentile_ms(p) for p in (50, 95, 99)},
        }


def register(app: typer.Typer) -> None:
    app.command()(run)


def run(
    engine: Annotated[Path, typer.Argument(help="an engine folder, ours or in Dělen's own layout")],
    conditions: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="conditions or a policy; give it again to switch while running."
            " By default the conditions*.json in the engine folder",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="how long each of them runs")] = 10.0,
    frames_folder: Annotated[
        Path | None,
        typer.Option(
            "--frames",
            exists=True,
            file_okay=False,
            help="a folder of frames; by default `frames` in the engine folder, else noise",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of one stage")] = None,
    backend_name: BackendOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the summary alone")] = False,
) -> None:
    """Run an engine in this process, task after task, switching conditions on the way.

    Prints a line per task and a summary: Dělen's own example.
    """
    loaded = manifest.load(engine)
    files: list[Path | None] = [*(conditions or sorted(engine.glob("conditions*.json")))] or [None]
    plans = [(str(path or "none"), _plan(path, loaded)) for path in files]
    say: Callable[[str], None] = (lambda _line: None) if as_json else print
    exits = len(loaded.stages)
    executor = Executor(clock=time.monotonic)
    with choice.opened(loaded, backend_name, threads) as backend:
        executor.add(loaded, backend)
        executor.warm_up(loaded, runs=WARM_UP_RUNS)
        inputs = itertools.cycle(_inputs(loaded, frames_folder))
        tallies = []
        for name, plan in plans:
            say(f"Updating conditions from file {name}")
            executor.plans = {TENANT: plan}
            tallies.append(Tally(conditions=name, exits=dict.fromkeys(range(exits), 0)))
            _run_for(seconds, executor, tallies[-1], _tasks(plan, inputs), say)
    if as_json:
        print(json.dumps([tally.findings() for tally in tallies]))
    else:
        _print_summary(tallies)


def _run_for(
    seconds: float,
    executor: Executor,
    tally: Tally,
    tasks: Iterator[Task],
    say: Callable[[str], None],
) -> None:
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        task = next(tasks)
        while task.stopped_by is None:
            executor.step(task)
        exit_, response_time_s = tally.take(task)
        say(f"task FINISHED, response time: {response_time_s * 1e3:.2f}, exit#: {exit_}")


def _tasks(plan: Plan, inputs: Iterator[NDArray[Any]]) -> Iterator[Task]:
    for number, frame in enumerate(inputs):
        request = Request(
            id=str(number),
            tenant=TENANT,
            stream=None,
            received_s=time.monotonic(),
            arrived_at_s=time.time(),
            reply_topic="",
        )
        yield Task(request=request, plan=plan, features=frame)


def _plan(path: Path | None, engine: Engine) -> Plan:
    """The plan for a file of conditions or a policy. Raises InvalidDocument."""
    if path is None:
        return compile_plan(_policy(engine, None), engine)
    document = parse_document(path.read_bytes())
    try:
        if isinstance(document.value, dict) and "tenant" in document.value:
            policy = read_policy(document)
        else:
            policy = _policy(engine, _conditions(document.value, path, engine))
        return compile_plan(policy, engine)
    except Faulty as error:
        raise InvalidDocument(document.locate(error.faults)) from error


def _policy(engine: Engine, exit_when: Condition | tuple[Condition, ...] | None) -> Policy:
    return Policy(tenant=TENANT, version=1, engine=engine.name).model_copy(
        update={"exit_when": exit_when}
    )


def _conditions(value: Any, path: Path, engine: Engine) -> Condition | tuple[Condition, ...]:
    conditions = parse_exit_when(value)
    # The files of a folder in Dělen's own layout speak in its units, as its profile does.
    if path.resolve().parent != engine.folder.resolve() or manifest.is_manifest(engine.folder):
        return conditions
    if isinstance(conditions, tuple):
        return tuple(in_seed_units(condition) for condition in conditions)
    return in_seed_units(conditions)


def _inputs(engine: Engine, folder: Path | None) -> list[NDArray[Any]]:
    """Decoded frames, shape (1, *input) each: the folder's, the engine's own, or noise."""
    folder = folder or engine.folder / "frames"
    paths = sorted(path for path in folder.rglob("*") if path.is_file())[:MAX_FRAMES]
    if paths:
        return [frames.decode(path.read_bytes(), None, engine.input, engine.kind) for path in paths]
    noise = np.random.default_rng(0).random((1, *engine.input.shape))
    return [noise.astype(engine.input.dtype)]


def _print_summary(tallies: list[Tally]) -> None:
    table = Table("conditions", "tasks", "exits", "p50 ms", "p95 ms", "p99 ms")
    for tally in tallies:
        exits = ", ".join(f"{exit_}: {count}" for exit_, count in tally.exits.items() if count)
        percentiles = [str(tally.percentile_ms(percent)) for percent in (50, 95, 99)]
        table.add_row(tally.conditions, str(len(tally.response_times_s)), exits, *percentiles)
    Console(highlight=False).print(table)
