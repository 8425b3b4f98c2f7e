"""`delen policy`: check, explain, push and show policies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance import manifest
from appliance.conditions import Condition
from appliance.conditions import explain as explain_condition
from appliance.connection import BrokerAddress
from appliance.engine import Engine
from appliance.errors import BrokerError, EngineError, Faulty, InvalidDocument, Problem
from appliance.feasibility import ExitFeasibility, conflicts, exits_of
from appliance.messages import POLICY_STATE, PolicyState
from appliance.plan import Plan, compile_plan
from appliance.policy import Policy, parse_policy, parse_policy_document, read_policy
from appliance.quantities import Dimension, format_quantity
from appliance.session import Session
from appliance.settings import read_settings

Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="policy files")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a policy file")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for machines")]
Wait = Annotated[float, typer.Option(help="seconds to wait for the first appliance's answer")]

MORE_APPLIANCES_S = 0.3
"""How long more appliances may take to answer, once one has."""


def register(app: typer.Typer) -> None:
    policy = typer.Typer(help="Check, explain, push and show policies.", no_args_is_help=True)
    for command in (check, explain, push, show):
        policy.command()(command)
    app.add_typer(policy, name="policy")


def check(files: Files, as_json: AsJson = False) -> None:
    """Check policy files: a line `FILE:LINE:COL: message` a problem, and exit code 1 if any."""
    problems = [(path, problem) for path in files for problem in _problems(path)]
    if as_json:
        print(json.dumps([{"file": str(path), **asdict(problem)} for path, problem in problems]))
    else:
        for path, problem in problems:
            print(f"{path}:{problem.line}:{problem.column}: {problem.message}")
    if problems:
        raise typer.Exit(1)


def _problems(path: Path) -> tuple[Problem, ...]:
    try:
        parse_policy(path.read_bytes())
    except InvalidDocument as error:
        return error.problems
    return ()


def explain(
    file: File,
    engines: Annotated[
        Path | None, typer.Option(help="the engines folder; DELEN_ENGINES by default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which exits a policy can reach, at what cost, and which bounds cannot be met together.

    Response times are those of the engine's profile (95th percentile, a batch of one), for a
    request that waits for no other.
    """
    document = parse_policy_document(file.read_bytes())
    policy = read_policy(document)
    engine = _engine(policy.engine, engines or read_settings().engines)
    try:
        plan = compile_plan(policy, engine)
    except Faulty as error:
        raise InvalidDocument(document.locate(error.faults)) from error
    times = [stage.latency[1].p95_s if 1 in stage.latency else None for stage in engine.stages]
    exits = exits_of(plan, times)
    sentences = conflicts(plan, exits)
    if as_json:
        print(json.dumps(_findings(policy, exits, sentences)))
    else:
        _print_explanation(plan, exits, sentences)


def _engine(name: str, folder: Path) -> Engine:
    folders = manifest.find(folder)
    if name not in folders:
        known = ", ".join(sorted(folders)) or "none"
        raise EngineError(f"no engine `{name}` in {folder}; engines there: {known}")
    return manifest.load(folders[name])


def _findings(policy: Policy, exits: list[ExitFeasibility], sentences: list[str]) -> dict[str, Any]:
    return {
        "tenant": policy.tenant,
        "version": policy.version,
        "engine": policy.engine,
        "exits": [asdict(exit_) for exit_ in exits],
        "conflicts": sentences,
    }


def _print_explanation(plan: Plan, exits: list[ExitFeasibility], sentences: list[str]) -> None:
    policy = plan.policy
    console = Console(highlight=False)
    console.print(f"{policy.tenant}, version {policy.version}, on {policy.engine}", markup=False)
    console.print(_bounds_line(policy), markup=False)
    for line in _exit_when_lines(policy.exit_when):
        console.print(line, markup=False)
    table = Table("exit", "response time", "energy", "accuracy", "reachable", "breaks")
    for exit_ in exits:
        table.add_row(
            str(exit_.exit),
            _quantity(exit_.response_time_s, Dimension.TIME),
            _quantity(exit_.energy_j, Dimension.ENERGY),
            _quantity(exit_.accuracy, Dimension.RATIO),
            ("yes" if exit_.reachable else "no") + (", dominated" if exit_.dominated else ""),
            ", ".join(exit_.broken),
        )
    console.print(table)
    for sentence in sentences:
        console.print(f"Conflict: {sentence}.", markup=False)


def _bounds_line(policy: Policy) -> str:
    dimensions = {
        "response_time": Dimension.TIME,
        "energy": Dimension.ENERGY,
        "accuracy": Dimension.RATIO,
    }
    bounds = [
        f"{name} {'at least' if name == 'accuracy' else 'at most'} {format_quantity(value, of)}"
        for name, of in dimensions.items()
        if (value := getattr(policy.bounds, name)) is not None
    ]
    return f"bounds: {', '.join(bounds) or 'none'}"


def _exit_when_lines(exit_when: Condition | tuple[Condition, ...] | None) -> list[str]:
    if exit_when is None:
        return ["exits when no deeper exit is more accurate, or a bound would break"]
    if not isinstance(exit_when, tuple):
        return [f"exits when {explain_condition(exit_when)}"]
    return [
        f"leaves exit {exit_} when {explain_condition(condition)}"
        for exit_, condition in enumerate(exit_when)
    ]


def _quantity(value: float | None, dimension: Dimension) -> str:
    return "not profiled" if value is None else format_quantity(value, dimension)


def push(file: File, wait: Wait = 20.0, as_json: AsJson = False) -> None:
    """Push a policy to its tenant's appliances, and say what they make of it.

    Exit code 1 where one turns it away, or none answers.
    """
    source = file.read_bytes()
    policy = parse_policy(source)
    states: Queue[PolicyState] = Queue()

    def received(_topic: str, payload: bytes, retained: bool) -> None:
        if payload and not retained:
            states.put(POLICY_STATE.validate_json(payload))

    with _client() as client:
        client.watch(client.topics.policy_state(policy.tenant, "+"), received)
        client.publish(client.topics.policy_set(policy.tenant), source)
        answers = _gather(states, wait)
    if not answers:
        raise BrokerError(f"no appliance answered within {wait:g} s; is one online?")
    _print_states(answers, as_json=as_json)
    if any(state.last_rejection is not None for state in answers):
        raise typer.Exit(1)


def show(
    tenant: Annotated[str, typer.Argument(help="the tenant's name")],
    wait: Wait = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show what is in force for a tenant, on every appliance that has a policy of it."""
    states: Queue[PolicyState] = Queue()

    def received(_topic: str, payload: bytes, _retained: bool) -> None:
        if payload:
            states.put(POLICY_STATE.validate_json(payload))

    with _client() as client:
        client.watch(client.topics.policy_state(tenant, "+"), received)
        answers = _gather(states, wait)
    if not answers:
        raise BrokerError(f"no appliance reports a policy of the tenant {tenant}")
    _print_states(answers, as_json=as_json)


def _client() -> Session:
    settings = read_settings()
    return Session(BrokerAddress.of(settings), prefix=settings.topic_prefix)


def _gather(states: Queue[PolicyState], wait_s: float) -> list[PolicyState]:
    """The latest state of each appliance that answers, the first in time, more right after."""
    latest: dict[str, PolicyState] = {}
    try:
        while True:
            state = states.get(timeout=MORE_APPLIANCES_S if latest else wait_s)
            latest[state.appliance] = state
    except Empty:
        return list(latest.values())


def _print_states(states: list[PolicyState], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(state) for state in states]))
        return
    for state in states:
        in_force = "nothing" if state.version is None else f"version {state.version}"
        engine = "" if state.engine is None else f" on {state.engine}"
        print(f"{state.appliance}: {in_force}{engine} is in force for {state.tenant}")
        for sentence in state.conflicts:
            print(f"  conflict: {sentence}")
        rejection = state.last_rejection
        if rejection is not None:
            print(f"  last rejection, {rejection.rejected_at}: {rejection.code} {rejection.reason}")
            if not rejection.errors:
                print(f"    {rejection.detail}")
            for problem in rejection.errors:
                print(f"    {problem.line}:{problem.column}: {problem.message}")
