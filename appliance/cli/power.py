"""`delen power`: what the meter says now, what a log of tegrastats says, what the ledger holds."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from enum import Enum
from itertools import chain, takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appliance.errors import MeterError
from appliance.ledger import DAY_S, HOUR_S
from appliance.power.meters import AUTO, METERS, MODELLED, MeterOptions, Search
from appliance.power.protocol import Reading
from appliance.power.tegrastats_line import Line, read_log
from appliance.reader import Reader
from appliance.replies import iso
from appliance.settings import read_settings

_BAR_CELLS = 30


class By(str, Enum):
    """How the ledger is summed up."""

    HOUR = "hour"
    DAY = "day"


def register(app: typer.Typer) -> None:
    app.command(name="power")(power)


def power(
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="LOG", help="Read a log of tegrastats; `-`: stdin."),
    ] = None,
    ledger: Annotated[
        By | None, typer.Option("--ledger", help="Joules by tenant and hour or day, as kept.")
    ] = None,
    meter: Annotated[
        str | None, typer.Option(help=f"One of {AUTO}, {', '.join(METERS)}; DELEN_METER's else.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long; until Ctrl-C else.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON each.")] = False,
) -> None:
    """Show power by rail, live or from a log, or the joules that tenants have spent."""
    if from_file is not None:
        _print_log(from_file, as_json=as_json)
    elif ledger is not None:
        _print_ledger(ledger, as_json=as_json)
    else:
        _print_live(meter, seconds, as_json=as_json)


def _print_log(path: Path, *, as_json: bool) -> None:
    try:
        if str(path) == "-":
            _print_lines(sys.stdin, as_json=as_json)
            return
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            _print_lines(lines, as_json=as_json)
    except OSError as error:
        raise MeterError(f"{path} cannot be read: {error.strerror or error}") from error


def _print_lines(lines: Iterator[str], *, as_json: bool) -> None:
    for number, line in read_log(lines):
        if as_json:
            print(json.dumps({"line": number, **_line_findings(line)}))
        elif isinstance(line, Line):
            rails = ", ".join(f"{name} {watts:.3f}" for name, watts in line.rails_w.items())
            print(f"{number}: {line.total_w:.3f} W = {' + '.join(line.total_of)}  ({rails})")
        else:
            print(f"{number}: not read: {line}")


def _line_findings(line: Line | MeterError) -> dict[str, Any]:
    if isinstance(line, MeterError):
        return {"error": str(line)}
    return _findings(line.total_w, line.total_of, line.rails_w, line.temperatures_c)


def _findings(
    total_w: float,
    total_of: tuple[str, ...],
    rails_w: Mapping[str, float],
    temperatures_c: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "total_w": round(total_w, 6),
        "total_of": list(total_of),
        "rails": {name: round(watts, 6) for name, watts in rails_w.items()},
        "temperatures": dict(temperatures_c),
    }


def _print_live(meter: str | None, seconds: float | None, *, as_json: bool) -> None:
    settings = read_settings() if meter is None else read_settings(meter=meter)
    if settings.meter == MODELLED:
        raise MeterError("the modelled meter reads nothing: name another one with --meter")
    options = MeterOptions(interval_s=settings.meter_interval, tegrastats=settings.tegrastats)
    search = Search(name=settings.meter, options=options)
    ends_s = math.inf if seconds is None else time.monotonic() + seconds
    readings = search.readings()
    try:
        first = next(readings)
        for name, why in search.refusals.items():
            print(f"passed by {name}: {why}", file=sys.stderr)
        until = takewhile(lambda _reading: time.monotonic() < ends_s, readings)
        show = _print_readings if as_json else _show_readings
        show(chain([first], until), _name(search))
    except KeyboardInterrupt:
        search.close()
    finally:
        readings.close()


def _print_readings(readings: Iterable[Reading], meter: str) -> None:
    for reading in readings:
        said = _findings(reading.total_w, reading.total_of, reading.rails_w, reading.temperatures_c)
        print(json.dumps({"at": iso(time.time()), "meter": meter, **said}), flush=True)


def _show_readings(readings: Iterable[Reading], meter: str) -> None:
    peak_w = 0.0
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for reading in readings:
            peak_w = max(peak_w, reading.total_w)
            live.update(_picture(reading, meter, peak_w), refresh=True)


def _name(search: Search) -> str:
    return search.name if search.meter is None else search.meter.name


def _picture(reading: Reading, meter: str, peak_w: float) -> Group:
    table = Table(box=None, padding=(0, 1))
    table.add_column("rail")
    table.add_column("W", justify="right")
    table.add_column("")
    for name, watts in reading.rails_w.items():
        bar = ProgressBar(total=max(peak_w, 1e-9), completed=max(0.0, watts), width=_BAR_CELLS)
        style = "bold" if name in reading.total_of else ""
        table.add_row(Text(name, style), Text(f"{watts:.3f}", style), bar)
    head = Text.assemble(
        (f"{reading.total_w:.3f} W", "bold"),
        f"  {' + '.join(reading.total_of)}, by {meter}; most so far {peak_w:.3f} W",
    )
    zones = "  ".join(f"{name} {celsius:g} °C" for name, celsius in reading.temperatures_c.items())
    return Group(head, table, Text(zones, "dim"))


def _print_ledger(by: By, *, as_json: bool) -> None:
    with Reader(read_settings().database) as reader:
        rows = reader.ledger(period_s=HOUR_S if by is By.HOUR else DAY_S)
    if as_json:
        for row in rows:
            print(
                json.dumps(
                    {
                        by.value: _moment(row.start_s),
                        "account": row.account,
                        "reported_j": row.reported_j,
                        "measured_j": row.measured_j,
                        "modelled_j": row.modelled_j,
                    }
                )
            )
        return
    table = Table(by.value, "account", box=None, padding=(0, 1))
    for name in ("in results, J", "measured, J", "modelled, J"):
        table.add_column(name, justify="right")
    for row in rows:
        joules = (f"{j:.3f}" for j in (row.reported_j, row.measured_j, row.modelled_j))
        table.add_row(_moment(row.start_s), row.account, *joules)
    Console(highlight=False).print(table)


def _moment(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).isoformat(timespec="minutes")
