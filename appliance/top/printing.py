"""The picture for scripts: plain tables once, or lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from appliance.errors import BrokerError
from appliance.fleet.appliances import Standing
from appliance.picture import Picture
from appliance.top.look import Look
from appliance.top.rows import APPLIANCE_COLUMNS, FLEET_TENANT_COLUMNS, Column, Row
from appliance.top.snapshot import snapshot
from appliance.top.summary import EMPTY, appliance_rows, summary_text, tenant_rows

LOOK_EVERY_S = 0.05
TELL_EVERY_S = 1.0
"""The least time between two lines of JSON."""


def gather(picture: Picture, *, within_s: float) -> None:
    """Waits until every appliance that is online has told how it stands, or until it is time.

    An appliance tells of its tenants first. Raises BrokerError where there is no broker.
    """
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s and not _have_all_told(picture):
        time.sleep(LOOK_EVERY_S)
        picture.take()
    link = picture.watcher.link
    if not link.connected:
        raise BrokerError(f"{link.failure}: is DELEN_MQTT_HOST right, and the broker running?")


def print_once(picture: Picture, console: Console) -> None:
    """The fleet in tables: its figures, its appliances, its tenants."""
    look = Look(fleet=picture.fleet, now_s=picture.now_s(), left_out=picture.watcher.left_out)
    if not look.fleet.appliances:
        console.print(EMPTY, markup=False)
        return
    summary = look.fleet.summary(look.now_s)
    unread = look.fleet.faulty + look.fleet.left_out + look.left_out
    console.print(summary_text(summary, unread=unread))
    console.print(_table(APPLIANCE_COLUMNS, appliance_rows(look, summary), console.width))
    console.print(_table(FLEET_TENANT_COLUMNS, tenant_rows(look), console.width))


def print_json(picture: Picture) -> None:
    """The fleet as one line of JSON."""
    print(json.dumps(snapshot(picture, picture.now_s())), flush=True)  # noqa: T201 - its purpose


def follow_json(picture: Picture) -> None:
    """A line of JSON whenever something has changed, without end."""
    seen = None
    while True:
        picture.take()
        state = (picture.fleet.changes, picture.watcher.link)
        if state != seen:
            print_json(picture)
            seen = state
        time.sleep(TELL_EVERY_S)


def _have_all_told(picture: Picture) -> bool:
    views = picture.fleet.appliances.values()
    online = [view for view in views if view.standing(picture.now_s()) is Standing.ONLINE]
    return bool(online) and all(view.telemetry is not None for view in online)


def _table(columns: Sequence[Column], rows: Sequence[Row], cells: int) -> Table:
    shown = [n for n, column in enumerate(columns) if cells >= column.from_cells]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for column in (columns[n] for n in shown):
        justify: JustifyMethod = "right" if column.is_figure else "left"
        most = column.most_cells_in(cells)
        table.add_column(column.title, no_wrap=True, justify=justify, max_width=most)
    for row in rows:
        # As Text, since what others named may look like markup.
        table.add_row(*(Text(row.cells[n].text, row.cells[n].style) for n in shown))
    return table
