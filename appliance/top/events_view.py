"""What was turned away, and what has happened: statuses, modes, policies, unreadable messages."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Vertical

from appliance.errors import Code
from appliance.fleet.marks import Mark, MarkKind
from appliance.fleet.words import clock, short
from appliance.messages import Rejection
from appliance.top.figures import Figures
from appliance.top.headings import table_heading
from appliance.top.look import Look
from appliance.top.rows import MIDDLE_CELLS, MOST_ROWS, Cell, Column, Place, Row
from appliance.top.table import FleetTable

REJECTION_COLUMNS = (
    Column(title="tenant"),
    Column(title="appliance"),
    Column(title="code", is_figure=True),
    Column(title="why", from_cells=MIDDLE_CELLS),
    Column(title="requests", is_figure=True),
)
EVENT_COLUMNS = (
    Column(title="at (UTC)"),
    Column(title="kind"),
    Column(title="where"),
    Column(title="what", most_cells=120),
)


UNREADABLE = "unreadable"
_ALARMS = (UNREADABLE, MarkKind.REJECTION.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What happened, when and where; texts are as others wrote them."""

    at_s: float
    kind: str
    where: str
    what: str
    place: Place | None = None


class Events(Vertical):
    """Rejections by tenant and code, and the latest events of the fleet."""

    def compose(self) -> ComposeResult:
        yield Figures(id="rejections-heading", classes="heading")
        yield FleetTable(
            REJECTION_COLUMNS, table_id="rejections", sort_by="requests", descending=True
        )
        yield Figures(id="events-heading", classes="heading")
        yield FleetTable(EVENT_COLUMNS, table_id="events", sort_by="at (UTC)", descending=True)

    def show(self, look: Look) -> None:
        """Brings it up to date."""
        rejections = self.query_one("#rejections", FleetTable)
        rejections.show(rejection_rows(look), look.filter_text)
        self.query_one("#rejections-heading", Figures).show(
            table_heading("Rejected in the last window", rejections.matching, look.filter_text)
        )
        events = self.query_one("#events", FleetTable)
        events.show(event_rows(look), look.filter_text)
        title = f"Events   unreadable messages: {look.fleet.faulty}"
        left_out = look.fleet.left_out + look.left_out
        if left_out:
            title += f", left out for want of room: {left_out}"
        self.query_one("#events-heading", Figures).show(
            table_heading(f"{title}   shown:", events.matching, look.filter_text)
        )


def rejection_rows(look: Look) -> list[Row]:
    """How many requests of each tenant were turned away, by code, as telemetry last told."""
    return [
        Row(
            key=f"{view.appliance}/{view.name}/{code}",
            place=Place(appliance=view.appliance, tenant=view.name),
            cells=(
                Cell(short(view.name), view.name),
                Cell(short(view.appliance), view.appliance),
                Cell(short(code), code, "red"),
                Cell(_reason(code)),
                Cell(str(count), count),
            ),
        )
        for view in look.fleet.tenants.values()
        if view.telemetry is not None
        for code, count in view.telemetry.rejections.items()
        if count
    ]


def event_rows(look: Look) -> list[Row]:
    """The latest events, the newest first."""
    latest = heapq.nlargest(MOST_ROWS, _events(look), key=lambda event: event.at_s)
    return [
        Row(
            key=str(number),
            place=event.place,
            cells=(
                Cell(clock(event.at_s), event.at_s),
                Cell(event.kind, event.kind, "red" if event.kind in _ALARMS else ""),
                Cell(short(event.where), event.where),
                Cell(short(event.what), event.what),
            ),
        )
        for number, event in enumerate(latest)
    ]


def _events(look: Look) -> Iterator[Event]:
    for fault in look.fleet.faults:
        yield Event(at_s=fault.at_s, kind=UNREADABLE, where=fault.topic, what=fault.sentence)
    for appliance in look.fleet.appliances.values():
        yield from _marks(appliance.marks, appliance.name, Place(appliance=appliance.name))
    for view in look.fleet.tenants.values():
        where = f"{view.name} on {view.appliance}"
        place = Place(appliance=view.appliance, tenant=view.name)
        yield from _marks(view.marks, where, place)
        for seen in view.replies:
            reply = seen.reply
            if isinstance(reply, Rejection):
                yield Event(
                    at_s=seen.at_s,
                    kind=MarkKind.REJECTION.value,
                    where=where,
                    what=f"{reply.code} {reply.reason}: {reply.detail}",
                    place=place,
                )


def _marks(marks: Iterable[Mark], where: str, place: Place) -> Iterator[Event]:
    for mark in marks:
        yield Event(
            at_s=mark.at_s, kind=mark.kind.value, where=where, what=mark.text, place=place
        )  # fmt: skip


def _reason(code: str) -> str:
    try:
        return Code(int(code)).reason
    except ValueError:
        return "a code of another version"
