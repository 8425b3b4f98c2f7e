"""Appliances, tenants, replies and events, each in a line of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.fleet.appliances import ApplianceView, Standing
from appliance.fleet.tenants import SeenReply, TenantView
from appliance.fleet.words import NOTHING, ago, clock, energy, number, percent, short
from appliance.messages import Result
from appliance.top.glyphs import sparkline

MOST_ROWS = 200
"""How many rows a table shows; a filter finds the others."""

WIDE_CELLS, MIDDLE_CELLS = 100, 72
"""From this width on a terminal has room for all columns, and for most of them."""

TREND_CELLS = 10
_NAME_CELLS, _SHORT_NAME_CELLS = 24, 10
_SIGNS = {
    Standing.ONLINE: ("●", "green"),
    Standing.SILENT: ("◐", "yellow"),
    Standing.STOPPED: ("○", ""),
    Standing.OFFLINE: ("✗", "red"),
    Standing.UNKNOWN: ("?", "yellow"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What stands in a table below each other."""

    title: str
    is_figure: bool = False
    """Figures are aligned to the right."""
    from_cells: int = 0
    """Left out of narrower terminals."""
    most_cells: int = _NAME_CELLS
    """What is longer is cut."""

    def most_cells_in(self, terminal_cells: int) -> int:
        """How wide it may be in a terminal of a width."""
        is_name = not self.is_figure and self.most_cells <= _NAME_CELLS
        is_narrow = terminal_cells < MIDDLE_CELLS
        return _SHORT_NAME_CELLS if is_name and is_narrow else self.most_cells


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and by what it is sorted: None comes last, whichever way it is sorted."""

    text: str
    order: float | str | None = None
    style: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """An appliance, or a tenant on it."""

    appliance: str
    tenant: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Cells in the order of their columns."""

    key: str
    """Tells it from all others of its table."""
    cells: tuple[Cell, ...]
    place: Place | None = None
    """What it is about."""

    def mentions(self, text: str) -> bool:
        """Whether a text stands in it, in capitals or not."""
        wanted = text.casefold()
        return any(wanted in cell.text.casefold() for cell in self.cells)


APPLIANCE_COLUMNS = (
    Column(title="appliance"),
    Column(title="state"),
    Column(title="power", is_figure=True),
    Column(title="requests", is_figure=True),
    Column(title="lately", from_cells=WIDE_CELLS),
    Column(title="waiting", is_figure=True, from_cells=MIDDLE_CELLS),
    Column(title="tenants", is_figure=True, from_cells=WIDE_CELLS),
    Column(title="kept", is_figure=True),
    Column(title="heard", is_figure=True, from_cells=MIDDLE_CELLS),
)

_TENANT_COLUMNS = (
    Column(title="mode", from_cells=WIDE_CELLS, most_cells=12),
    Column(title="requests", is_figure=True),
    Column(title="p50", is_figure=True, from_cells=WIDE_CELLS),
    Column(title="p99", is_figure=True),
    Column(title="bound", is_figure=True, from_cells=MIDDLE_CELLS),
    Column(title="kept", is_figure=True),
    Column(title="energy", is_figure=True, from_cells=MIDDLE_CELLS),
    Column(title="budget", is_figure=True, from_cells=MIDDLE_CELLS),
)

TENANT_COLUMNS = (Column(title="tenant"), *_TENANT_COLUMNS)
FLEET_TENANT_COLUMNS = (
    Column(title="tenant", most_cells=16),
    Column(title="appliance", most_cells=16),
    *_TENANT_COLUMNS,
)

REPLY_COLUMNS = (
    Column(title="at (UTC)"),
    Column(title="answer"),
    Column(title="exit", is_figure=True),
    Column(title="sure", is_figure=True, from_cells=WIDE_CELLS),
    Column(title="time", is_figure=True),
    Column(title="energy", is_figure=True, from_cells=MIDDLE_CELLS),
    Column(title="why", most_cells=120),
)


def standing_text(standing: Standing) -> tuple[str, str]:
    """A standing as a sign with a word, and its style."""
    sign, style = _SIGNS[standing]
    return f"{sign} {standing.value}", style


def appliance_row(view: ApplianceView, now_s: float, kept: Sequence[float | None]) -> Row:
    """An appliance; `kept` is what fraction of answers each of its tenants had within bounds."""
    standing = view.standing(now_s)
    is_live = standing is Standing.ONLINE
    told = view.telemetry if is_live else None
    power_w = view.power_w if is_live else None
    rate_per_s = view.rate_per_s if is_live else None
    worst = min((fraction for fraction in kept if fraction is not None), default=None)
    since_s = now_s - view.heard_s
    return Row(
        key=view.name,
        place=Place(appliance=view.name),
        cells=(
            _name(view.name),
            Cell(standing_text(standing)[0], standing.value, standing_text(standing)[1]),
            Cell(number(power_w, "W"), power_w),
            Cell(number(rate_per_s, "/s"), rate_per_s),
            Cell(sparkline(view.history.column("rate_per_s"), TREND_CELLS), rate_per_s),
            Cell(NOTHING, None) if told is None else _count(told.queue_length),
            _count(len(kept)),
            Cell(percent(worst), worst),
            Cell(ago(since_s), since_s),
        ),
    )


def tenant_row(view: TenantView, now_s: float, *, with_appliance: bool) -> Row:
    """A tenant on one appliance; `with_appliance` is for FLEET_TENANT_COLUMNS."""
    names = (_name(view.name), *((_name(view.appliance),) if with_appliance else ()))
    told, kept = view.telemetry, view.bound_kept(now_s)
    kept_cell = Cell(percent(kept), kept)
    if told is None:
        nothing = Cell(NOTHING, None)
        cells = (*names, *(nothing,) * 5, kept_cell, nothing, nothing)
        return Row(key=_key(view), place=_place(view), cells=cells)
    times, bound_ms = told.response_time_ms, told.bounds.response_time_ms
    p50_ms, p99_ms = times.get("p50"), times.get("p99")
    each_j = told.energy_mj * 1e-3 / told.answered if told.answered else None
    left = told.budget.remaining if told.budget else None
    is_late = p99_ms is not None and bound_ms is not None and p99_ms > bound_ms
    mode = short(told.mode or "policy")
    return Row(
        key=_key(view),
        place=_place(view),
        cells=(
            *names,
            Cell(mode, mode),
            Cell(number(told.rate_per_s, "/s"), told.rate_per_s),
            Cell(number(p50_ms, "ms"), p50_ms),
            Cell(f"{'!' if is_late else ''}{number(p99_ms, 'ms')}", p99_ms, _alarm(is_one=is_late)),
            Cell("none" if bound_ms is None else number(bound_ms, "ms"), bound_ms),
            kept_cell,
            Cell(energy(each_j), each_j),
            Cell(percent(left), left),
        ),
    )


def reply_row(index: int, seen: SeenReply) -> Row:
    """A result or a rejection, as it was seen."""
    reply, at = seen.reply, Cell(clock(seen.at_s), seen.at_s)
    if not isinstance(reply, Result):
        nothing = Cell(NOTHING, None)
        what = short(f"{reply.code} {reply.reason}")
        cells = (at, Cell(what, what, "red"), *(nothing,) * 4, Cell(short(reply.detail)))
        return Row(key=str(index), cells=cells)
    energy_j = None if reply.energy_mj is None else reply.energy_mj * 1e-3
    unmet = f", beyond its bound on {', '.join(reply.unmet)}" if reply.unmet else ""
    label, why = short(reply.label), short(f"{reply.stopped_by}{unmet}")
    return Row(
        key=str(index),
        cells=(
            at,
            Cell(label, label),
            Cell(str(reply.exit), reply.exit),
            Cell(number(reply.confidence), reply.confidence),
            Cell(number(reply.response_time_ms, "ms"), reply.response_time_ms),
            Cell(energy(energy_j), energy_j),
            Cell(why, why, _alarm(is_one=bool(reply.unmet))),
        ),
    )


def _name(name: str) -> Cell:
    return Cell(short(name), name)


def _count(count: int) -> Cell:
    return Cell(str(count), count)


def _alarm(*, is_one: bool) -> str:
    return "bold red" if is_one else ""


def _key(view: TenantView) -> str:
    # No name has a slash in it: both are levels of a topic.
    return f"{view.appliance}/{view.name}"


def _place(view: TenantView) -> Place:
    return Place(appliance=view.appliance, tenant=view.name)
