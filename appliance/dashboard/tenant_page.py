"""One tenant on one appliance: response times, exits, confidence, energy, budget, replies."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from appliance.dashboard import charts, layout
from appliance.dashboard.charts import Line
from appliance.dashboard.layout import ChartCards, Tile
from appliance.fleet import words
from appliance.fleet.remarks import policy_sentence, tenant_fault
from appliance.fleet.tenants import SeenReply, TenantView, exit_column
from appliance.messages import Result
from appliance.picture import Picture
from appliance.telemetry import TenantTelemetry
from appliance.topics import level_fault

REPLIES_SHOWN = 15
MARKS_SHOWN = 8


class TenantPage:
    """Built once for whoever looks; `show` brings it up to date."""

    def __init__(self, picture: Picture, appliance: str, name: str) -> None:
        self._picture = picture
        self._key = (appliance, name)
        layout.title(name)
        with ui.element("div").classes("row"):
            self._policy = ui.label().classes("quiet text")
            ui.link("Edit its policy", layout.policy_path(appliance, name)).classes("go")
        self._missing = ui.label(
            f"Nothing was heard of a tenant {words.short(name)} on {words.short(appliance)}."
            " It is told of once it has a policy: push one with `delen policy push FILE`."
        ).classes("empty")
        self._fault = ui.label().classes("fault text")
        self._tiles()
        self._cards = self._charts()
        self._tables()
        self.show()
        ui.timer(layout.REFRESH_S, self.show)
        # Results are many: they come only while somebody looks. An address may hold any name.
        if level_fault(name) is None:
            picture.watcher.look_at(name)
            ui.context.client.on_delete(lambda: picture.watcher.look_away(name))

    def _tiles(self) -> None:
        with ui.element("div").classes("tiles"):
            self._rate = Tile("Requests")
            self._p99 = Tile("p99 response time")
            self._kept = Tile("Bounds kept")
            self._confidence = Tile("Confidence")
            self._each = Tile("Energy each")
            self._budget = Tile("Budget left")

    def _charts(self) -> ChartCards:
        empty = "No answer has been told of since this dashboard was started."
        cards = ChartCards()
        cards.add("Response time against its bound, in ms", self._times, empty=empty)
        cards.add("Exits taken, in answers a second", self._exits, empty=empty)
        cards.add("Confidence and bounds kept, in %", self._qualities, empty=empty)
        cards.add("Energy of an answer, in mJ", self._energies, empty=empty)
        cards.add("Budget left, in %", self._budgets, empty="Its policy sets no budget.")
        cards.add("Requests a second", self._rates, empty=empty)
        return cards

    def _tables(self) -> None:
        with ui.element("div").classes("split"):
            with layout.card("Latest results and rejections"):
                self._no_reply = ui.label(
                    "None was seen while this page is open. They show up as they come, where the"
                    " dashboard's broker user may read the tenant's results."
                ).classes("empty small")
                self._replies = layout.table(
                    {
                        "at": "at (UTC)", "what": "answer", "exit": "exit",
                        "confidence": "confidence",
                        "time": "response time", "energy": "energy", "why": "stopped by",
                    },
                    wide=("confidence", "energy"),
                    left=("at", "what", "why"),
                )  # fmt: skip
                for field in ("what", "why"):
                    self._replies.add_slot(f"body-cell-{field}", layout.TEXT_SLOT)
            with layout.card("Changes"):
                self._no_mark = ui.label("No policy was pushed, no mode changed.")
                self._no_mark.classes("empty small")
                self._marks = layout.table({"at": "at (UTC)", "text": "what"}, left=("at", "text"))
                self._marks.add_slot("body-cell-text", layout.TEXT_SLOT)

    @property
    def _view(self) -> TenantView | None:
        return self._picture.fleet.tenants.get(self._key)

    def show(self) -> None:
        """Brings the page up to date."""
        view = self._view
        self._missing.set_visibility(view is None)
        if view is None:
            return
        self._policy.set_text(policy_sentence(view))
        fault = tenant_fault(view)
        self._fault.set_visibility(fault is not None)
        self._fault.set_text(fault or "")
        if view.telemetry is not None:
            self._show_tiles(view, view.telemetry)
        replies = [_reply_row(n, seen) for n, seen in enumerate(reversed(view.replies))]
        self._no_reply.set_visibility(not replies)
        layout.show_rows(self._replies, replies[:REPLIES_SHOWN])
        marks = [
            {"key": number, "at": words.clock(mark.at_s), "text": words.short(mark.text)}
            for number, mark in enumerate(reversed(view.marks))
        ]
        self._no_mark.set_visibility(not marks)
        layout.show_rows(self._marks, marks[:MARKS_SHOWN])
        self._cards.refresh()

    def _show_tiles(self, view: TenantView, told: TenantTelemetry) -> None:
        now_s, bound_ms = self._picture.now_s(), told.bounds.response_time_ms
        rejected = f"{told.rejected} rejected" if told.rejected else "none rejected"
        self._rate.show(words.number(told.rate_per_s, "/s"), rejected)
        bound = "no bound" if bound_ms is None else f"bound {words.number(bound_ms, 'ms')}"
        self._p99.show(words.number(told.response_time_ms.get("p99"), "ms"), bound)
        self._kept.show(words.percent(view.bound_kept(now_s)), "of the last minute's answers")
        self._confidence.show(words.number(view.confidence), "mean of the last answers")
        each_j = told.energy_mj * 1e-3 / told.answered if told.answered else None
        self._each.show(words.energy(each_j), words.short(told.energy_source))
        budget = told.budget
        if budget is None:
            self._budget.show("no budget")
        else:
            end = words.duration(budget.ends_in_s)
            left = (
                f"{words.energy(budget.left_j)} for {end} more"
                if budget.left_j > 0.0
                else f"spent: more comes in {end}"
            )
            self._budget.show(words.percent(budget.remaining), left)

    def _times(self) -> charts.Options:
        lines = [
            Line(column="p50_ms", name="p50"),
            Line(column="p99_ms", name="p99"),
            Line(column="bound_ms", name="bound", is_bound=True),
        ]
        return self._drawn(lines, marks_named=True)

    def _exits(self) -> charts.Options:
        view = self._view
        lines = [
            Line(column=exit_column(exit_), name=f"exit {exit_}", area=True)
            for exit_ in range(0 if view is None else view.exits)
        ]
        return self._drawn(lines)

    def _qualities(self) -> charts.Options:
        lines = [
            Line(column="confidence", name="confidence", scale=100.0),
            Line(column="bound_kept", name="bounds kept", scale=100.0),
        ]
        return self._drawn(lines, most=100.0)

    def _energies(self) -> charts.Options:
        lines = [
            Line(column="energy_each_mj", name="an answer"),
            Line(column="energy_bound_mj", name="bound", is_bound=True),
        ]
        return self._drawn(lines)

    def _budgets(self) -> charts.Options:
        line = Line(column="budget_left", name="left", scale=100.0)
        return self._drawn([line], most=100.0)

    def _rates(self) -> charts.Options:
        lines = [
            Line(column="answered_per_s", name="answered", area=True),
            Line(column="rejected_per_s", name="rejected", area=True, colour=charts.BOUND_COLOUR),
        ]
        return self._drawn(lines)

    def _drawn(
        self, lines: list[Line], *, most: float | None = None, marks_named: bool = False
    ) -> charts.Options:
        view = self._view
        if view is None:
            return charts.nothing()
        return charts.chart(
            view.history,
            lines,
            marks=view.marks,
            now_s=self._picture.now_s(),
            most=most,
            marks_named=marks_named,
        )


def _reply_row(number: int, seen: SeenReply) -> dict[str, Any]:
    reply = seen.reply
    row: dict[str, Any] = {"key": number, "at": words.clock(seen.at_s)}
    if not isinstance(reply, Result):
        empty = dict.fromkeys(("exit", "confidence", "time", "energy"), words.NOTHING)
        what = words.short(f"{reply.code} {reply.reason}")
        return {**row, **empty, "what": what, "why": words.short(reply.detail)}
    energy_j = None if reply.energy_mj is None else reply.energy_mj * 1e-3
    unmet = f", beyond its bound on {', '.join(reply.unmet)}" if reply.unmet else ""
    return {
        **row,
        "what": words.short(reply.label),
        "exit": str(reply.exit),
        "confidence": words.number(reply.confidence),
        "time": words.number(reply.response_time_ms, "ms"),
        "energy": words.energy(energy_j),
        "why": words.short(f"{reply.stopped_by}{unmet}"),
    }
