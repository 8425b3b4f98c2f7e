"""The fleet: who is there, what it takes, who keeps its bounds least."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from nicegui import ui

from appliance.dashboard import layout
from appliance.dashboard.layout import Tile
from appliance.fleet import words
from appliance.fleet.appliances import ApplianceView, Standing
from appliance.fleet.fleet import Summary
from appliance.fleet.tenants import TenantView
from appliance.picture import Picture

WORST_SHOWN = 10
FAULTS_SHOWN = 8

_EMPTY = (
    "No appliance has been heard of yet. Start one with `delen serve`, with this broker in its"
    " DELEN_MQTT_HOST and this prefix in its DELEN_TOPIC_PREFIX; it is here a moment later."
)


class FleetPage:
    """Built once for whoever looks; `show` brings it up to date."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._tiles()
        self._tables()
        self.show()
        ui.timer(layout.REFRESH_S, self.show)

    def _tiles(self) -> None:
        with ui.element("div").classes("tiles"):
            self._standing = Tile("Appliances")
            self._power = Tile("Power")
            self._rate = Tile("Requests")
            self._worst = Tile("Worst bound kept")

    def _tables(self) -> None:
        with layout.card("Appliances"):
            self._empty = ui.label(_EMPTY).classes("empty")
            self._appliances = layout.table(
                {
                    "name": "appliance", "standing": "", "power": "power", "rate": "requests",
                    "tenants": "tenants", "kept": "bound kept", "queue": "waiting",
                    "heard": "heard",
                },
                wide=("power", "queue", "heard", "tenants"),
                left=("name", "standing"),
            )  # fmt: skip
            self._appliances.add_slot("body-cell-name", layout.LINK_SLOT)
            self._appliances.add_slot("body-cell-standing", layout.CHIP_SLOT)
        with layout.card("Tenants that keep their bounds least") as self._worst_card:
            self._tenants = tenants_table()
        with layout.card("Messages that could not be read") as self._faults_card:
            self._faulty = ui.label().classes("quiet small")
            self._faults = layout.table(
                {"at": "at (UTC)", "topic": "topic", "sentence": "what is wrong"},
                left=("at", "topic", "sentence"),
            )
            for field in ("topic", "sentence"):
                self._faults.add_slot(f"body-cell-{field}", layout.TEXT_SLOT)

    def show(self) -> None:
        """Brings the page up to date."""
        now_s, fleet = self._picture.now_s(), self._picture.fleet
        summary = fleet.summary(now_s)
        self._show_tiles(summary)
        views = sorted(fleet.appliances.values(), key=lambda view: view.name)
        self._empty.set_visibility(not views)
        kept = summary.bounds_kept
        of_appliances: defaultdict[str, list[float | None]] = defaultdict(list)
        for key in fleet.tenants:
            of_appliances[key[0]].append(kept.get(key))
        rows = [self._row(view, now_s, of_appliances[view.name]) for view in views]
        layout.show_rows(self._appliances, rows)
        least = sorted(kept.items(), key=lambda pair: pair[1])[:WORST_SHOWN]
        rows = [tenant_row(fleet.tenants[key], now_s, with_appliance=True) for key, _ in least]
        self._worst_card.set_visibility(bool(rows))
        layout.show_rows(self._tenants, rows)
        self._show_faults()

    def _show_tiles(self, summary: Summary) -> None:
        counts = summary.standings
        others = [
            f"{counts[s]} {s.value}" for s in Standing if counts[s] and s is not Standing.ONLINE
        ]
        self._standing.show(f"{counts[Standing.ONLINE]} online", ", ".join(others))
        self._power.show(
            words.number(summary.power_w, "W"),
            "no meter can be read" if summary.power_w is None else "of all that are online",
        )
        self._rate.show(words.number(summary.rate_per_s, "/s"), "answered or rejected")
        worst = summary.worst
        if worst is None:
            self._worst.show(words.NOTHING, "nothing was answered in the last minute")
        else:
            note = f"{words.short(worst.tenant)} on {words.short(worst.appliance)}"
            self._worst.show(words.percent(worst.bound_kept), note)

    def _row(
        self, view: ApplianceView, now_s: float, tenants_kept: list[float | None]
    ) -> dict[str, Any]:
        standing = view.standing(now_s)
        kept = [fraction for fraction in tenants_kept if fraction is not None]
        is_live = standing is Standing.ONLINE
        telemetry = view.telemetry
        return {
            "key": view.name,
            "name": words.short(view.name),
            "href": layout.appliance_path(view.name),
            "standing": standing.value,
            "chip": standing.value,
            "power": words.number(view.power_w if is_live else None, "W"),
            "rate": words.number(view.rate_per_s if is_live else None, "/s"),
            "tenants": str(len(tenants_kept)),
            "kept": words.percent(min(kept, default=None)),
            "queue": str(telemetry.queue_length) if telemetry and is_live else words.NOTHING,
            "heard": words.ago(now_s - view.heard_s),
        }

    def _show_faults(self) -> None:
        fleet = self._picture.fleet
        left_out = fleet.left_out + self._picture.watcher.left_out
        self._faults_card.set_visibility(bool(fleet.faulty or left_out))
        shown = f"{fleet.faulty} could not be read"
        more = f"; {left_out} were left out for want of room" if left_out else ""
        self._faulty.set_text(f"{shown}{more}. The latest:")
        rows = [
            {
                "key": number,
                "at": words.clock(fault.at_s),
                "topic": words.short(fault.topic),
                "sentence": words.short(fault.sentence),
            }
            for number, fault in enumerate(reversed(fleet.faults))
        ]
        layout.show_rows(self._faults, rows[:FAULTS_SHOWN])


def tenants_table(*, with_appliance: bool = True) -> ui.table:
    """A table for `tenant_row`s."""
    columns = {
        "name": "tenant", **({"appliance": "appliance"} if with_appliance else {}),
        "mode": "mode", "rate": "requests", "p50": "p50", "p99": "p99", "bound": "bound",
        "kept": "bound kept", "each": "energy each", "budget": "budget left",
    }  # fmt: skip
    wide = ("mode", "rate", "p50", "bound", "each", "budget")
    table = layout.table(columns, wide=wide, left=("name", "appliance", "mode"))
    table.add_slot("body-cell-name", layout.LINK_SLOT)
    return table


def tenant_row(view: TenantView, now_s: float, *, with_appliance: bool) -> dict[str, Any]:
    """A tenant in a line."""
    told = view.telemetry
    row = {
        "key": f"{view.appliance}/{view.name}",
        "name": words.short(view.name),
        "href": layout.tenant_path(view.appliance, view.name),
        "kept": words.percent(view.bound_kept(now_s)),
        **({"appliance": words.short(view.appliance)} if with_appliance else {}),
    }
    if told is None:
        empty = ("mode", "rate", "p50", "p99", "bound", "each", "budget")
        return {**row, **dict.fromkeys(empty, words.NOTHING)}
    times, bound_ms = told.response_time_ms, told.bounds.response_time_ms
    each_j = told.energy_mj * 1e-3 / told.answered if told.answered else None
    return {
        **row,
        "mode": words.short(told.mode or "policy"),
        "rate": words.number(told.rate_per_s, "/s"),
        "p50": words.number(times.get("p50"), "ms"),
        "p99": words.number(times.get("p99"), "ms"),
        "bound": "none" if bound_ms is None else words.number(bound_ms, "ms"),
        "each": words.energy(each_j),
        "budget": words.percent(told.budget.remaining if told.budget else None),
    }
