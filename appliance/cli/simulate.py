"""`delen simulate`: what policies would do under a load."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.errors import InvalidDocument, WorkloadError
from appliance.plan import Plan
from appliance.quantities import Dimension, QuantityError, format_quantity, parse_quantity
from appliance.settings import read_settings
from appliance.workload.engines import Engines
from appliance.workload.load import Load, generated_load, logged_load, recorded_load
from appliance.workload.picture import draw_outcome
from appliance.workload.scenario import Machine, Outcome, Scenario
from appliance.workload.tally import Tally
from appliance.workload.trace import FORMS, Generated, Logged, Recorded, parse_trace

SECONDS = 60.0
"""How long a generated load is, where nothing is said."""

PERCENTS = (50, 95, 99)


def register(app: typer.Typer) -> None:
    app.command()(simulate)


def _seconds(text: str) -> float:
    try:
        seconds = parse_quantity(text, Dimension.TIME)
    except QuantityError as error:
        raise typer.BadParameter(str(error)) from error
    if seconds <= 0:
        raise typer.BadParameter(f"{text} is no time to simulate: write more than 0")
    return seconds


def simulate(
    policies: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, dir_okay=False, help="policy files, one a tenant"),
    ] = None,
    *,
    trace: Annotated[str, typer.Option(help=FORMS)],
    engine: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="an engine folder, or one that holds engines; give it again for more."
            " DELEN_ENGINES by default",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            parser=_seconds,
            metavar="DURATION",
            help=f"how much of the load is played: all of a file or the log, else {SECONDS:g}s",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same figures")] = 1,
    pace: Annotated[
        float, typer.Option(min=0.01, max=1000.0, help="how many times slower than the profile")
    ] = 1.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="stages take the profile's median, without its spread")
    ] = False,
    database: Annotated[
        Path | None, typer.Option(help="the database of --trace log; DELEN_DATABASE by default")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="draw load, exits and latency over time into this file"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, for machines")] = False,
) -> None:
    """Play a load to policies under a simulated clock: what would they do?

    Scheduler, executor and adaptation are the appliance's own; stage times come from the engines'
    profiles, answers from their frames.
    """
    settings = read_settings()
    engines = Engines(engine or [settings.engines])
    plans = _plans(policies or [], engines)
    load = _load(trace, plans, engines, database or settings.database, seconds, seed)
    machine = Machine(pace=pace, noisy=not exact, budget=settings.device_budget, seed=seed)
    scenario = Scenario(load.plans, machine)
    outcome = scenario.play(load.arrivals)
    if png is not None:
        _draw(outcome, png)
    if as_json:
        print(json.dumps(_findings(outcome, trace, machine, load)))
    else:
        _print(outcome)
    for tenant, count in load.left_out.items():
        print(f"left out: {count} requests of {tenant}, which has no policy", file=sys.stderr)


def _plans(files: Iterable[Path], engines: Engines) -> dict[str, Plan]:
    """The plans in policy files, by tenant; exits where one of them is wrong."""
    plans: dict[str, Plan] = {}
    faulty = False
    for path in files:
        try:
            plan = engines.plan_of(path.read_bytes())
        except InvalidDocument as error:
            faulty = True
            for problem in error.problems:
                place = f"{path}:{problem.line}:{problem.column}"
                print(f"{place}: {problem.message}", file=sys.stderr)
            continue
        if plan.policy.tenant in plans:
            raise WorkloadError(f"{path} is a second policy of the tenant {plan.policy.tenant}")
        plans[plan.policy.tenant] = plan
    if faulty:
        raise typer.Exit(1)
    return plans


def _load(
    text: str,
    plans: Mapping[str, Plan],
    engines: Engines,
    database: Path,
    seconds: float | None,
    seed: int,
) -> Load:
    match parse_trace(text):
        case Generated() as generated:
            return generated_load(generated, plans, seconds=seconds or SECONDS, seed=seed)
        case Recorded() as recorded:
            return recorded_load(recorded, plans, seconds=seconds or math.inf)
        case Logged(seconds=back_s):
            since_s = time.time() - back_s
            return logged_load(
                database, plans, engines, since_s=since_s, seconds=seconds or math.inf
            )


def _draw(outcome: Outcome, path: Path) -> None:
    try:
        draw_outcome(outcome, path)
    except ModuleNotFoundError as error:
        advice = "install it with pip install 'delen[profile]'"
        raise WorkloadError(f"there is no picture without matplotlib: {advice}") from error
    except OSError as error:
        raise WorkloadError(f"the picture cannot be written: {error}") from error


def _findings(outcome: Outcome, trace: str, machine: Machine, load: Load) -> dict[str, Any]:
    return {
        "trace": trace,
        "seed": machine.seed,
        "pace": machine.pace,
        "seconds": round(outcome.seconds, 3),
        "busy": round(outcome.busy, 4),
        "tenants": [_tenant_findings(tenant, t) for tenant, t in outcome.tallies.items()],
        "left_out": dict(load.left_out),
    }


def _tenant_findings(tenant: str, tally: Tally) -> dict[str, Any]:
    policy = tally.plan.policy
    return {
        "tenant": tenant,
        "policy_version": policy.version,
        "engine": policy.engine,
        "requests": len(tally.arrived_s),
        "answers": tally.answers,
        "exits": {str(exit_): n for exit_, n in enumerate(tally.exit_counts().tolist())},
        "response_time_ms": {f"p{p}": _ms(tally.percentile_s(p)) for p in PERCENTS},
        "bound_kept": _rounded(tally.bound_kept),
        "accuracy": _rounded(tally.accuracy),
        "agreement": _rounded(tally.agreement),
        "answers_from": "frames" if tally.recorded else "profile",
        "energy_j": round(tally.energy_j, 6),
        "rejected": {str(code.value): n for code, n in sorted(tally.rejected.items())},
        "stopped_by": {why.value: n for why, n in tally.stopped_by.most_common()},
        "modes": {mode: _rounded(share) for mode, share in tally.mode_shares().items()},
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _rounded(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction, 5)


def _print(outcome: Outcome) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("tenant", overflow="fold")
    for name in ("requests", "exits %", "p50", "p95", "p99 ms", "in bound", "right", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    for tenant, tally in outcome.tallies.items():
        # As Text, since what operators named may look like markup.
        table.add_row(*(Text(cell) for cell in _cells(tenant, tally)))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for tenant, tally in outcome.tallies.items():
        for code, count in sorted(tally.rejected.items()):
            line = f"{tenant}: {count} rejected, {code.value} {code.reason}"
            console.print(line, markup=False)
        if tally.plan.modes:
            shares = ", ".join(f"{mode} {part:.1%}" for mode, part in tally.mode_shares().items())
            console.print(f"{tenant}: in its modes {shares} of the time", markup=False)
        if tally.agreement is not None and tally.plan.policy.bounds.agreement is not None:
            console.print(f"{tenant}: {tally.agreement:.2%} agree with the last exit", markup=False)
        if not tally.recorded:
            console.print(f"{tenant}: answers are drawn from the profile", markup=False)
    simulated = format_quantity(outcome.seconds, Dimension.TIME)
    console.print(f"{simulated} simulated, {outcome.busy:.1%} of it at work")


def _cells(tenant: str, tally: Tally) -> tuple[str, ...]:
    shares = tally.exit_counts() * 100 / max(1, tally.answers)
    percentiles = [tally.percentile_s(percent) for percent in PERCENTS]
    return (
        tenant,
        str(len(tally.arrived_s)),
        " ".join(f"{share:.0f}" for share in shares.tolist()),
        *("" if p is None else f"{p * 1e3:.1f}" for p in percentiles),
        "no bound" if tally.bound_kept is None else f"{tally.bound_kept:.2%}",
        "" if tally.accuracy is None else f"{tally.accuracy:.1%}",
        format_quantity(tally.energy_j, Dimension.ENERGY),
    )
