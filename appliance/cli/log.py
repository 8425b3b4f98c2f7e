"""`delen log`: what the appliance answered and rejected."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.messages import REPLY, Reply, Result
from appliance.quantities import Dimension, QuantityError, parse_quantity
from appliance.reader import Reader
from appliance.records import REPLY_COLUMNS, row_of
from appliance.settings import read_settings

TABLE_ROWS = 50
"""How many of the newest a table shows, where no limit is given."""


def register(app: typer.Typer) -> None:
    app.command()(log)


def _duration_s(text: str) -> float:
    try:
        duration_s = parse_quantity(text, Dimension.TIME)
    except QuantityError as error:
        raise typer.BadParameter(str(error)) from error
    if duration_s < 0:
        raise typer.BadParameter(f"{text} is not how far back: write it without the minus")
    return duration_s


def log(
    *,
    tenant: Annotated[str | None, typer.Option(help="only this tenant's")] = None,
    since: Annotated[
        float | None,
        typer.Option(parser=_duration_s, metavar="DURATION", help="how far back: 30s, 15m, 1h, 7d"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"the newest so many; {TABLE_ROWS} in a table, else all"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines: an object per line, as on the wire")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="CSV with a header; lists in it are JSON")
    ] = False,
    database: Annotated[
        Path | None, typer.Option(help="the database; DELEN_DATABASE by default")
    ] = None,
) -> None:
    """Show what was answered and rejected, newest last; the appliance may run meanwhile."""
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    if limit is None and not (as_json or as_csv):
        limit = TABLE_ROWS
    with Reader(database or read_settings().database) as reader:
        replies = reader.inferences(
            tenant=tenant, since_s=None if since is None else time.time() - since, limit=limit
        )
        if as_json:
            _print_json_lines(replies)
        elif as_csv:
            _print_csv(replies)
        else:
            _print_table(replies)


def _print_json_lines(replies: Iterable[Reply]) -> None:
    for reply in replies:
        print(REPLY.dump_json(reply).decode())


def _print_csv(replies: Iterable[Reply]) -> None:
    writer = csv.DictWriter(sys.stdout, REPLY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row_of(reply) for reply in replies)


def _print_table(replies: Iterable[Reply]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("arrived", "tenant", "stream", "exit", "answer"):
        table.add_column(name, no_wrap=True)
    for unit in ("ms", "mJ"):
        table.add_column(unit, no_wrap=True, justify="right")
    table.add_column("stopped by", overflow="fold")
    for reply in replies:
        # As Text, since what sensors and operators named may look like markup.
        table.add_row(*(Text(cell) for cell in (*_who(reply), *_what(reply))))
    if table.row_count:
        Console(highlight=False).print(table)
    else:
        print("nothing was logged", file=sys.stderr)


def _who(reply: Reply) -> tuple[str, str, str]:
    arrived = datetime.fromisoformat(reply.arrived_at).astimezone()
    return f"{arrived:%m-%d %H:%M:%S}", reply.tenant, reply.stream or ""


def _what(reply: Reply) -> tuple[str, str, str, str, str]:
    if not isinstance(reply, Result):
        return "", "", "", "", f"{reply.code} {reply.reason}: {reply.detail}"
    unmet = f"; unmet: {', '.join(reply.unmet)}" if reply.unmet else ""
    return (
        str(reply.exit),
        f"{reply.label} {reply.confidence:.0%}",
        f"{reply.response_time_ms:.1f}",
        "" if reply.energy_mj is None else f"{reply.energy_mj:.1f}",
        reply.stopped_by + unmet,
    )
