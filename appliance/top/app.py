"""The terminal's application: views, keys, and what was chosen with them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Input, TabbedContent, TabPane, Tabs

from appliance.fleet.words import clock, duration, short
from appliance.picture import Picture
from appliance.top.appliance_view import OneAppliance
from appliance.top.events_view import Events
from appliance.top.figures import Figures
from appliance.top.fleet_view import FleetView
from appliance.top.help import Help
from appliance.top.look import Look
from appliance.top.rows import Place
from appliance.top.table import FleetTable
from appliance.top.tenant_view import OneTenant

REFRESH_S = 0.5
VIEWS = ("fleet", "appliance", "tenant", "events")
_THEME = "ansi-dark"
"""The one with the terminal's own colours; none of those that it calls dark is used."""


class TopApp(App[None]):
    """Draws the picture until somebody quits."""

    CSS_PATH = "style.tcss"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = "FleetTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"show_view('{name}')", show=False)
            for number, name in enumerate(VIEWS, 1)
        ),
        Binding("left", "step(-1)", show=False),
        Binding("right", "step(1)", show=False),
        # Who has no room for all keys in the last line needs these first.
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("escape", "up", "Back", key_display="Esc"),
        Binding("n", "next(1)", "Next"),
        Binding("p", "next(-1)", "Previous"),
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(
        self, picture: Picture, *, broker: str, now_s: Callable[[], float] = time.time
    ) -> None:
        super().__init__(ansi_color=True)
        self.picture = picture
        self._broker = broker
        self._now_s = now_s
        self._place: Place | None = None
        self._looked_at: str | None = None
        """The tenant whose results are heard."""
        self.theme = _THEME

    def compose(self) -> ComposeResult:
        yield Figures(id="link")
        with TabbedContent():
            yield TabPane("1 Fleet", FleetView(), id="fleet")
            yield TabPane("2 Appliance", OneAppliance(), id="appliance")
            yield TabPane("3 Tenant", OneTenant(), id="tenant")
            yield TabPane("4 Events", Events(), id="events")
        yield Input(placeholder="a part of a name", id="filter", compact=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        # Queried rather than the app, whose queries go to the help while that is shown.
        self._main = self.screen
        self._main.query_one(Tabs).can_focus = False
        self.set_interval(REFRESH_S, self.draw)
        # An exit by an exception would leave the terminal as it is now.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)

    @property
    def view(self) -> str:
        """Which of VIEWS is shown."""
        return self._main.query_one(TabbedContent).active

    def draw(self) -> None:
        """Takes in what came, and brings the view that is shown up to date."""
        self.picture.take()
        # While it comes up, and while it ends, there is nothing yet or any more to draw on.
        with suppress(NoMatches):
            self._draw()

    def _draw(self) -> None:
        self._look_at_results()
        self._draw_link()
        look = Look(
            fleet=self.picture.fleet,
            now_s=self._now_s(),
            left_out=self.picture.watcher.left_out,
            place=self._chosen(),
            filter_text=self._main.query_one("#filter", Input).value,
        )
        match self.view:
            case "fleet":
                self._main.query_one(FleetView).show(look)
            case "appliance":
                self._main.query_one(OneAppliance).show(look)
            case "tenant":
                self._main.query_one(OneTenant).show(look)
            case "events":
                self._main.query_one(Events).show(look)

    def action_show_view(self, name: str) -> None:
        self._main.query_one(TabbedContent).active = name

    def action_step(self, by: int) -> None:
        self.action_show_view(VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)])

    def action_up(self) -> None:
        """Ends the filter, or goes to what stands above."""
        box = self._main.query_one("#filter", Input)
        if box.value or box.has_focus:
            box.value = ""
            self._close_filter()
        else:
            self.action_show_view("appliance" if self.view == "tenant" else "fleet")

    def action_next(self, by: int) -> None:
        """Chooses the next appliance or tenant, by name."""
        place, fleet = self._chosen(), self.picture.fleet
        if place is None:
            return
        if self.view == "tenant":
            names = [view.name for view in fleet.tenants_of(place.appliance)]
            if names:
                tenant = _next(names, place.tenant, by)
                self._place = Place(appliance=place.appliance, tenant=tenant)
        elif fleet.appliances:
            self._place = Place(appliance=_next(sorted(fleet.appliances), place.appliance, by))
            self._main.query_one("#appliances", FleetTable).point_at(self._place)
        self.draw()

    def action_filter(self) -> None:
        box = self._main.query_one("#filter", Input)
        box.display = True
        # At once: keys that follow are for the filter.
        self._main.set_focus(box)

    def action_sort(self) -> None:
        self._table.sort_by_next()

    def action_reverse(self) -> None:
        self._table.reverse()

    def action_help(self) -> None:
        self.push_screen(Help())

    @on(TabbedContent.TabActivated)
    def _activated(self) -> None:
        self.draw()
        if not self._main.query_one("#filter", Input).has_focus:
            self._table.focus()

    @on(DataTable.RowSelected)
    def _opened(self, event: DataTable.RowSelected) -> None:
        place = event.data_table.place if isinstance(event.data_table, FleetTable) else None
        if place is not None:
            self._place = place
            self.action_show_view("appliance" if place.tenant is None else "tenant")

    @on(DataTable.RowHighlighted)
    def _pointed_at(self, event: DataTable.RowHighlighted) -> None:
        table = event.data_table
        if isinstance(table, FleetTable) and table.has_focus and self.view != "events":
            self._place = table.place or self._place

    @on(Input.Changed, "#filter")
    def _filtered(self) -> None:
        self.draw()

    @on(Input.Submitted, "#filter")
    def _close_filter(self) -> None:
        box = self._main.query_one("#filter", Input)
        box.display = bool(box.value)
        self._table.focus()

    @property
    def _table(self) -> FleetTable:
        """The table that keys are meant for: the focused one, or the first that is shown."""
        tables = self._main.query_one(TabbedContent).get_pane(self.view).query(FleetTable)
        return next((one for one in tables if one.has_focus), tables.first())

    def _chosen(self) -> Place | None:
        """What was chosen; else the first appliance, and where a tenant is shown its first."""
        fleet, place = self.picture.fleet, self._place
        if place is None and fleet.appliances:
            place = Place(appliance=min(fleet.appliances))
        if place is not None and place.tenant is None and self.view == "tenant":
            tenants = fleet.tenants_of(place.appliance)
            place = Place(appliance=place.appliance, tenant=tenants[0].name if tenants else None)
        return place

    def _look_at_results(self) -> None:
        """Has results come only while somebody sees them, since they are many."""
        place = self._chosen() if self.view == "tenant" else None
        wanted = None if place is None else place.tenant
        if wanted == self._looked_at:
            return
        if self._looked_at is not None:
            self.picture.watcher.look_away(self._looked_at)
        if wanted is not None:
            self.picture.watcher.look_at(wanted)
        self._looked_at = wanted

    def _draw_link(self) -> None:
        link, now_s = self.picture.watcher.link, self._now_s()
        bar = self._main.query_one("#link", Figures)
        bar.set_class(not link.connected, "lost")
        if link.connected:
            text = f"Dělen top   {self._broker}   {clock(now_s)} UTC"
        else:
            since = duration(max(0.0, now_s - link.since_s))
            text = (
                f"No connection for {since}: {short(link.failure or '')}. This is how it was then;"
                " it goes on by itself."
            )
        bar.show(Text(text))


def _next(names: list[str], name: str | None, by: int) -> str:
    """The name so many places on, around the end; the first where there is no such name."""
    return names[(names.index(name) + by) % len(names)] if name in names else names[0]
