"""One appliance: rails and temperatures over time, queue, engines, meter, tenants."""

from __future__ import annotations

from nicegui import ui

from appliance.dashboard import charts, layout
from appliance.dashboard.charts import Line
from appliance.dashboard.fleet_page import tenant_row, tenants_table
from appliance.dashboard.layout import ChartCards, Tile
from appliance.fleet import words
from appliance.fleet.appliances import ApplianceView
from appliance.fleet.remarks import appliance_remarks
from appliance.picture import Picture
from appliance.telemetry import ApplianceTelemetry


class AppliancePage:
    """Built once for whoever looks; `show` brings it up to date."""

    def __init__(self, picture: Picture, name: str) -> None:
        self._picture = picture
        self._name = name
        with ui.element("div").classes("row"):
            layout.title(name)
            self._chip = ui.label().classes("chip")
        self._missing = ui.label(
            f"Nothing was heard of an appliance {words.short(name)}. It shows up here with its"
            " first message: is it running, and connected to this broker?"
        ).classes("empty")
        self._remarks = ui.element("div").classes("stack")
        self._said: list[str] = []
        self._tiles()
        self._cards = self._charts()
        self._tables()
        self.show()
        ui.timer(layout.REFRESH_S, self.show)

    def _tiles(self) -> None:
        with ui.element("div").classes("tiles"):
            self._power = Tile("Power")
            self._rate = Tile("Requests")
            self._queue = Tile("Waiting")
            self._heat = Tile("Hottest")
            self._meter = Tile("Meter")
            self._budget = Tile("Device budget left")

    def _charts(self) -> ChartCards:
        cards = ChartCards()
        cards.add("Power of the rails, in W", self._rails, empty="No meter is read here.")
        cards.add("Temperatures, in °C", self._heats, empty="No temperature is told.")
        unheard = "No telemetry has come since this dashboard was started."
        cards.add("Requests a second", self._rates, empty=unheard)
        cards.add("Requests that wait", self._waiting, empty="No telemetry has come yet.")
        return cards

    def _tables(self) -> None:
        with layout.card("Engines"):
            self._no_engine = ui.label("No engine is open: the first request opens it.")
            self._no_engine.classes("empty small")
            self._engines = layout.table(
                {"name": "engine", "backend": "runs on", "state": "state"},
                left=("name", "backend", "state"),
            )
            self._engines.add_slot("body-cell-state", layout.TEXT_SLOT)
        with layout.card("Tenants"):
            self._no_tenant = ui.label(
                "No tenant has a policy here: push one with `delen policy push FILE`."
            ).classes("empty small")
            self._tenants = tenants_table(with_appliance=False)

    @property
    def _view(self) -> ApplianceView | None:
        return self._picture.fleet.appliances.get(self._name)

    def show(self) -> None:
        """Brings the page up to date."""
        now_s, view = self._picture.now_s(), self._view
        self._missing.set_visibility(view is None)
        self._chip.set_visibility(view is not None)
        if view is None:
            return
        standing = view.standing(now_s).value
        self._chip.set_text(standing)
        self._chip.classes(replace=f"chip {standing}")
        self._show_remarks(appliance_remarks(view, now_s))
        if view.telemetry is not None:
            self._show_tiles(view, view.telemetry)
            self._show_engines(view.telemetry)
        tenants = self._picture.fleet.tenants_of(self._name)
        self._no_tenant.set_visibility(not tenants)
        rows = [tenant_row(one, now_s, with_appliance=False) for one in tenants]
        layout.show_rows(self._tenants, rows)
        self._cards.refresh()

    def _show_remarks(self, remarks: list[str]) -> None:
        if remarks != self._said:
            self._said = remarks
            self._remarks.clear()
            with self._remarks:
                for remark in remarks:
                    ui.label(remark).classes("fault text small")

    def _show_tiles(self, view: ApplianceView, told: ApplianceTelemetry) -> None:
        power, budget = told.power, told.device_budget
        idle = "" if power.idle_w is None else f"{words.number(power.idle_w, 'W')} when idle"
        self._power.show(words.number(power.power_w, "W"), idle)
        self._rate.show(words.number(view.rate_per_s, "/s"), f"over {told.window_s:.1f} s")
        self._queue.show(str(told.queue_length), "requests of all tenants")
        name, heat_c = max(power.temperatures_c.items(), key=lambda p: p[1], default=("", None))
        self._heat.show(words.number(heat_c, "°C"), words.short(name))
        of = ", ".join(power.total_of)
        self._meter.show(words.short(told.meter), words.short(f"sum of {of}") if of else "")
        ends = "" if budget is None else f"for {words.duration(budget.ends_in_s)} more"
        self._budget.show(words.percent(budget.remaining) if budget else "no budget", ends)

    def _show_engines(self, told: ApplianceTelemetry) -> None:
        names = sorted({*told.engines, *told.out_of_service})
        rows = [
            {
                "key": name,
                "name": words.short(name),
                "backend": words.short(told.backends.get(name, words.NOTHING)),
                "state": words.short(told.out_of_service.get(name, "open")),
            }
            for name in names
        ]
        self._no_engine.set_visibility(not rows)
        layout.show_rows(self._engines, rows)

    def _rails(self) -> charts.Options:
        return self._drawn(self._columns("rail "))

    def _heats(self) -> charts.Options:
        return self._drawn(self._columns("temp "))

    def _rates(self) -> charts.Options:
        return self._drawn([Line(column="rate_per_s", name="answered or rejected")])

    def _waiting(self) -> charts.Options:
        return self._drawn([Line(column="queue", name="waiting")], smallest_step=1.0)

    def _columns(self, prefix: str) -> list[Line]:
        view = self._view
        return [] if view is None else charts.lines_of(view.history.names, prefix)

    def _drawn(self, lines: list[Line], *, smallest_step: float = 0.0) -> charts.Options:
        view = self._view
        if view is None:
            return charts.nothing()
        return charts.chart(
            view.history,
            lines,
            marks=view.marks,
            now_s=self._picture.now_s(),
            smallest_step=smallest_step,
        )
