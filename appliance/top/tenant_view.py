"""One tenant on one appliance: response times, exits, confidence, energy, budget, replies."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from appliance.fleet.remarks import policy_sentence, tenant_fault
from appliance.fleet.tenants import TenantView
from appliance.fleet.words import duration, energy, number, percent, short
from appliance.telemetry import AgreementTelemetry, BudgetTelemetry, TenantTelemetry
from appliance.top.figures import Figures
from appliance.top.gauges import Gauge, exits_lines, figures_cells
from appliance.top.headings import name_text, table_heading
from appliance.top.look import Look
from appliance.top.rows import REPLY_COLUMNS, reply_row
from appliance.top.table import FleetTable

_NO_REPLY = "they show up as they come, where this broker user may read them"


class OneTenant(Vertical):
    """The tenant that was chosen, with its latest results and rejections."""

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Figures(id="tenant-figures", classes="figures")
        yield Figures(id="replies-heading", classes="heading")
        yield FleetTable(REPLY_COLUMNS, table_id="replies", sort_by="at (UTC)", descending=True)

    def show(self, look: Look) -> None:
        """Brings it up to date."""
        figures = self.query_one("#tenant-figures", Figures)
        figures.show(tenant_text(look, figures_cells(self.app.size.width)))
        seen = [] if look.tenant is None else reversed(look.tenant.replies)
        table = self.query_one("#replies", FleetTable)
        table.show([reply_row(number, one) for number, one in enumerate(seen)], look.filter_text)
        title = "Latest results and rejections"
        self.query_one("#replies-heading", Figures).show(
            table_heading(title, table.matching, look.filter_text, empty=_NO_REPLY)
        )


def tenant_text(look: Look, width: int) -> Text:
    """Everything but its replies, in lines of a width."""
    view, place = look.tenant, look.place
    if view is None:
        if place is None or place.tenant is None:
            return Text("No tenant was heard of: push a policy with `delen policy push FILE`.")
        return Text(
            f"Nothing was heard of a tenant {short(place.tenant)} on {short(place.appliance)}."
            " It is told of once it has a policy: push one with `delen policy push FILE`."
        )
    lines = [
        name_text(f"{short(view.name)} on {short(view.appliance)}"),
        Text(policy_sentence(view), no_wrap=True, overflow="ellipsis"),
    ]
    fault = tenant_fault(view)
    if fault is not None:
        lines.append(Text(f"! {fault}", "bold red"))
    if view.telemetry is None:
        lines.append(Text("No telemetry has come yet."))
    else:
        told = view.telemetry
        lines += [gauge.line(width) for gauge in _times(view, told)]
        lines += exits_lines({int(name): count for name, count in told.exits.items()}, width)
        lines += [gauge.line(width) for gauge in _qualities(view, told, look.now_s)]
    return Text("\n").join(lines)


def _times(view: TenantView, told: TenantTelemetry) -> list[Gauge]:
    history, bound_ms = view.history, told.bounds.response_time_ms
    p50_ms, p99_ms = told.response_time_ms.get("p50"), told.response_time_ms.get("p99")
    is_late = bound_ms is not None and p99_ms is not None and p99_ms > bound_ms
    if bound_ms is None:
        note = "no bound"
    elif p99_ms is None or bound_ms <= 0.0:
        note = f"bound {number(bound_ms, 'ms')}"
    else:
        note = f"{p99_ms / bound_ms * 100.0:.0f} % of its bound of {number(bound_ms, 'ms')}"
    turned_away = [
        f"{told.rejected} rejected" if told.rejected else "none rejected",
        f"{told.queue_length} waiting",
    ]
    return [
        Gauge(
            name="p50",
            value=number(p50_ms, "ms"),
            history=history.column("p50_ms"),
            most=bound_ms,
        ),
        Gauge(
            name="p99",
            value=number(p99_ms, "ms"),
            history=history.column("p99_ms"),
            most=bound_ms,
            note=note,
            is_alarm=is_late,
        ),
        Gauge(
            name="requests",
            value=number(told.rate_per_s, "/s"),
            history=history.column("rate_per_s"),
            note=", ".join(turned_away),
        ),
    ]


def _qualities(view: TenantView, told: TenantTelemetry, now_s: float) -> list[Gauge]:
    history, bound_mj = view.history, told.bounds.energy_mj
    each_j = told.energy_mj * 1e-3 / told.answered if told.answered else None
    bound = "" if bound_mj is None else f", bound {energy(bound_mj * 1e-3)}"
    return [
        Gauge(
            name="bounds kept",
            value=percent(view.bound_kept(now_s)),
            history=history.column("bound_kept"),
            most=1.0,
            note="of the last minute's answers",
        ),
        Gauge(
            name="confidence",
            value=number(view.confidence),
            history=history.column("confidence"),
            most=1.0,
            note="mean of the last answers",
        ),
        Gauge(
            name="energy each",
            value=energy(each_j),
            history=history.column("energy_each_mj"),
            most=bound_mj,
            note=f"by {short(told.energy_source)}{bound}",
        ),
        *(_budget("budget left", one) for one in [told.budget] if one is not None),
        *(_budget("of device's", one) for one in [told.device_budget] if one is not None),
        *(_agreement(one, told) for one in [told.agreement] if one is not None),
    ]


def _budget(name: str, budget: BudgetTelemetry) -> Gauge:
    end = duration(budget.ends_in_s)
    is_spent = budget.left_j <= 0.0
    return Gauge(
        name=name,
        value=percent(budget.remaining),
        fraction=budget.remaining,
        note=f"spent: more in {end}" if is_spent else f"{energy(budget.left_j)} for {end} more",
        is_alarm=is_spent,
    )


def _agreement(estimate: AgreementTelemetry, told: TenantTelemetry) -> Gauge:
    asked = told.bounds.agreement
    wanted = "" if asked is None else f", asked {percent(asked)}"
    return Gauge(
        name="agreement",
        value=percent(estimate.agreement),
        fraction=estimate.agreement,
        note=f"{percent(estimate.low)} to {percent(estimate.high)}{wanted}",
        is_alarm=asked is not None and estimate.high < asked,
    )
