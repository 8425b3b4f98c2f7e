"""One appliance: power, rails and temperatures, queue, engines, meter, tenants."""

from __future__ import annotations

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from appliance.fleet.appliances import ApplianceView
from appliance.fleet.remarks import appliance_remarks
from appliance.fleet.words import NOTHING, duration, energy, number, percent, short
from appliance.telemetry import ApplianceTelemetry
from appliance.top.figures import Figures
from appliance.top.gauges import Gauge, column_cells, figures_cells, side_by_side
from appliance.top.headings import name_text, table_heading
from appliance.top.look import Look
from appliance.top.rows import TENANT_COLUMNS, standing_text, tenant_row
from appliance.top.table import FleetTable

HOTTEST_C = 100.0
"""Where the bars of temperatures end."""

MOST_RAILS = 64
_NO_TENANT = "none has a policy here: push one with `delen policy push FILE`"


class OneAppliance(Vertical):
    """The appliance that was chosen, with its tenants."""

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Figures(id="appliance-figures", classes="figures")
        yield Figures(id="tenants-heading", classes="heading")
        yield FleetTable(TENANT_COLUMNS, table_id="tenants", sort_by="tenant")

    def show(self, look: Look) -> None:
        """Brings it up to date."""
        figures = self.query_one("#appliance-figures", Figures)
        figures.show(appliance_text(look, figures_cells(self.app.size.width)))
        views = [] if look.appliance is None else look.fleet.tenants_of(look.appliance.name)
        table = self.query_one("#tenants", FleetTable)
        rows = [tenant_row(view, look.now_s, with_appliance=False) for view in views]
        table.show(rows, look.filter_text)
        self.query_one("#tenants-heading", Figures).show(
            table_heading("Tenants", table.matching, look.filter_text, empty=_NO_TENANT)
        )


def appliance_text(look: Look, width: int) -> Text:
    """Everything but its tenants, in lines of a width."""
    view = look.appliance
    if view is None:
        name = "" if look.place is None else f" {short(look.place.appliance)}"
        return Text(
            f"Nothing was heard of an appliance{name}. It shows up here with its first message:"
            " is it running, and connected to this broker?"
        )
    text = name_text(view.name)
    sign_and_word, style = standing_text(view.standing(look.now_s))
    text.append("  ").append(sign_and_word, style or "not bold")
    if view.telemetry is not None:
        text.append(f"  up {duration(view.telemetry.uptime_s)}", "not bold")
    lines = [text]
    lines += [Text(f"! {remark}", "yellow") for remark in appliance_remarks(view, look.now_s)]
    if view.telemetry is not None:
        lines += _gauges(view, view.telemetry, width)
        column = column_cells(width)
        lines.append(side_by_side(_rails(view, column - 1), _heats(view, column), width))
        lines += _engines(view.telemetry)
    return Text("\n").join(lines)


def _gauges(view: ApplianceView, told: ApplianceTelemetry, width: int) -> list[Text]:
    history, power = view.history, told.power
    idle = "" if power.idle_w is None else f"{number(power.idle_w, 'W')} idle; "
    of = ", ".join(short(name) for name in power.total_of)
    gauges = [
        Gauge(
            name="power",
            value=number(power.power_w, "W"),
            history=history.column("power_w"),
            note=f"{idle}by {short(told.meter)}{f', {of}' if of else ''}",
        ),
        Gauge(
            name="requests",
            value=number(view.rate_per_s, "/s"),
            history=history.column("rate_per_s"),
            note=f"over {number(told.window_s, 's')}",
        ),
        Gauge(
            name="waiting",
            value=str(told.queue_length),
            history=history.column("queue"),
            most=1.0,
            note="requests of all tenants",
        ),
    ]
    budget = told.device_budget
    if budget is not None:
        left = f"{energy(budget.left_j)} for {duration(budget.ends_in_s)} more"
        gauges.append(
            Gauge(
                name="budget left",
                value=percent(budget.remaining),
                fraction=budget.remaining,
                note=left,
                is_alarm=budget.left_j <= 0.0,
            )
        )
    return [gauge.line(width) for gauge in gauges]


def _rails(view: ApplianceView, width: int) -> list[Text]:
    if view.telemetry is None:
        return []
    rails_w = view.telemetry.power.rails_w
    drawn_to_w = _peak(view, [f"rail {name}" for name in rails_w])
    return [
        Gauge(
            name=short(name),
            value=number(rail_w, "W"),
            fraction=rail_w / drawn_to_w if drawn_to_w > 0.0 else 0.0,
            history=view.history.column(f"rail {name}"),
            most=drawn_to_w,
        ).line(width, note_cells=0)
        for name, rail_w in sorted(rails_w.items())[:MOST_RAILS]
    ]


def _heats(view: ApplianceView, width: int) -> list[Text]:
    if view.telemetry is None:
        return []
    return [
        Gauge(
            name=short(name),
            value=number(heat_c, "°C"),
            fraction=heat_c / HOTTEST_C,
            history=view.history.column(f"temp {name}"),
            most=HOTTEST_C,
        ).line(width, note_cells=0)
        for name, heat_c in sorted(view.telemetry.power.temperatures_c.items())[:MOST_RAILS]
    ]


def _peak(view: ApplianceView, columns: list[str]) -> float:
    """The largest figure that any of the columns has had."""
    peaks = (np.nanmax(view.history.column(name), initial=0.0) for name in columns)
    return float(max(peaks, default=0.0))


def _engines(told: ApplianceTelemetry) -> list[Text]:
    if not told.engines and not told.out_of_service:
        return [Text("engines        none is open: the first request opens one")]
    opened = [
        f"{short(name)} on {short(told.backends.get(name, NOTHING))}"
        for name in told.engines
        if name not in told.out_of_service
    ]
    lines = [Text(f"engines        {', '.join(opened)}")] if opened else []
    return lines + [
        Text(f"! {short(name)} is out of service: {short(why)}", "bold red")
        for name, why in told.out_of_service.items()
    ]
