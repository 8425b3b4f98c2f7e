"""`delen doctor`: what works here, and what to do about what does not."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.diagnosis import Finding, State, diagnose

COLOURS = {State.OK: "green", State.MISSING: "yellow", State.WRONG: "bold red"}


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Say what is installed and what works here, and what to do about what does not.

    Exit code 1 where something is wrong that serving needs.
    """
    findings = list(diagnose())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print_table(findings)
    wrong = [finding.subject for finding in findings if finding.stops_serving]
    if wrong:
        print(f"An appliance cannot serve as it should here: {', '.join(wrong)}.", file=sys.stderr)
        raise typer.Exit(1)


def _print_table(findings: list[Finding]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("finding, and what to do", overflow="fold")
    for finding in findings:
        advice = Text(f"\n{finding.advice}" if finding.advice else "", "italic")
        table.add_row(
            Text(finding.subject),
            Text(finding.state.value, COLOURS[finding.state]),
            Text(finding.detail).append_text(advice),
        )
    Console(highlight=False).print(table)
