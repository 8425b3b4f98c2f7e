"""`delen demo`: the whole system on one machine, for people to watch."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from appliance import manifest
from appliance.cli.demo_table import WIDTH, line_of, picture, table_of
from appliance.cli.interruption import signals_do
from appliance.demo.scene import Scene
from appliance.demo.tally import Tally, TenantTally
from appliance.errors import ServiceError

LINES_EVERY_S = 2.0
"""How often a line per tenant is printed where there is no terminal to redraw."""


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    seconds: Annotated[float, typer.Option(min=1.0, help="how long the sensors send")] = 20.0,
    engine: Annotated[
        Path, typer.Option(help="the engine folder, with frames in frames/LABEL/")
    ] = Path("engines/digits"),
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    picture_file: Annotated[
        Path | None,
        typer.Option("--picture", dir_okay=False, help="draw the last table into an SVG file"),
    ] = None,
) -> None:
    """Watch three tenants share one appliance, with a broker of their own.

    A fleet manager changes their policies half-way. Nothing is left behind. Exit code 1 where a
    tenant got no results.
    """
    console = Console(stderr=as_json, highlight=False)
    stop = threading.Event()
    with signals_do(signal.default_int_handler):
        console.print("Starting a broker, an appliance and three sensors ...")
        with Scene(manifest.load(engine.resolve())) as scene:
            console.print(_dashboard_line(scene.dashboard), soft_wrap=True)
            # While something is drawn, an interrupt could leave it half done.
            with signals_do(lambda *_: stop.set()):
                ended_s = _watch(scene, seconds, stop, console)
            scene.settle()
            table = table_of(scene, ended_s, seconds)
            _print_summary(scene, table, console, as_json=as_json)
            if picture_file is not None:
                picture_file.write_text(picture(table), encoding="utf-8")
            _complain_of_silence(scene)


def _dashboard_line(address: str | None) -> str:
    if address is None:
        return "No dashboard is here: pip install 'delen\\[dashboard]' shows all this in a browser."
    return f"Dashboard: {address} (until the demo ends; --seconds 600 makes it longer)"


def _watch(scene: Scene, seconds: float, stop: threading.Event, console: Console) -> float:
    """Shows what goes on until it is over; how long that was, in seconds."""
    now_s = 0.0
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for now_s in scene.play(seconds, stop):
                live.update(table_of(scene, now_s, seconds), refresh=True)
        return now_s
    next_s, changed = 0.0, False
    for now_s in scene.play(seconds, stop):
        if scene.changed_s is not None and not changed:
            changed = True
            console.print(f"{scene.changed_s:5.1f} s  the fleet manager changes the policies")
        if now_s >= next_s:
            next_s += LINES_EVERY_S
            for change in scene.changes:
                policy = change.after if changed else change.before
                console.print(f"{now_s:5.1f} s  {line_of(policy, scene.tallies[policy.tenant])}")
    return now_s


def _complain_of_silence(scene: Scene) -> None:
    silent = [name for name, tally in scene.tallies.items() if not tally.total.answered]
    if silent:
        raise ServiceError(
            f"no results for {', '.join(silent)}; the appliance's log ends with:\n"
            + scene.appliance_log()
        )


def _print_summary(scene: Scene, table: RenderableType, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {
                    name: {**findings(tally), "ran_out_s": scene.ran_out_s.get(name)}
                    for name, tally in scene.tallies.items()
                }
            )
        )
    elif console.is_terminal:
        console.print(table)
    else:
        Console(width=WIDTH, highlight=False).print(table)


def findings(tally: TenantTally) -> dict[str, Any]:
    """A tenant's summary for machines; times in ms, energy in J."""
    return {
        "sent": tally.sent,
        **_findings(tally.total),
        "versions": {str(v): _findings(tally.by_version[v]) for v in sorted(tally.by_version)},
    }


def _findings(tally: Tally) -> dict[str, Any]:
    return {
        "answered": tally.answered,
        "rejected": tally.rejected,
        "exits": {str(exit_): count for exit_, count in tally.exits.items()},
        "p50_ms": _milli(tally.percentile_s(50)),
        "p99_ms": _milli(tally.percentile_s(99)),
        "bound_kept": _rounded(tally.bound_kept),
        "accuracy": _rounded(tally.accuracy),
        "energy_j": round(tally.energy_j, 6),
        "over_budget": tally.over_budget,
    }


def _milli(value_s: float | None) -> float | None:
    return None if value_s is None else round(value_s * 1e3, 3)


def _rounded(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction, 4)
