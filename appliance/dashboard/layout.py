"""What all pages share: the bar, the banner of the connection, tiles, cards and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import ui

from appliance.dashboard import charts
from appliance.fleet import words
from appliance.picture import Picture

REFRESH_S = 0.5
DRAWN_EVERY = 2
"""Charts are drawn at every second refresh."""

ROWS_A_PAGE = 50
_STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")

LINK_SLOT = (
    '<q-td :props="props"><a :href="props.row.href" :title="props.value">{{ props.value }}</a>'
    "</q-td>"
)
CHIP_SLOT = (
    '<q-td :props="props"><span :class="[\'chip\', props.row.chip]">{{ props.value }}</span></q-td>'
)
TEXT_SLOT = '<q-td :props="props"><span class="text">{{ props.value }}</span></q-td>'


def appliance_path(appliance: str) -> str:
    return f"/appliance/{quote(appliance, safe='')}"


def tenant_path(appliance: str, tenant: str) -> str:
    return f"/tenant/{quote(appliance, safe='')}/{quote(tenant, safe='')}"


def policy_path(appliance: str, tenant: str) -> str:
    return f"/policy/{quote(appliance, safe='')}/{quote(tenant, safe='')}"


@contextmanager
def page(
    picture: Picture,
    *,
    crumbs: Sequence[tuple[str, str]],
    is_let_in: Callable[[], bool],
    can_log_out: bool,
) -> Iterator[ui.dark_mode]:
    """The frame around a page's content; crumbs are texts with the paths that they lead to.

    Whose session ends is sent to log in again.
    """
    ui.add_css(_STYLE)
    ui.colors(primary="#2f6f8f")
    dark = ui.dark_mode(None)
    with ui.element("header").classes("bar"):
        ui.link("Dělen", "/").classes("brand")
        for text, path in crumbs:
            ui.label("/").classes("crumb")
            ui.link(words.short(text), path).classes("crumb go")
        ui.element("div").classes("fill")
        link = ui.label().classes("link")
        with ui.button(icon="contrast", on_click=lambda: _turn(dark)).props(
            "flat round dense size=sm aria-label='light or dark'"
        ):
            ui.tooltip("light, dark, or as the system says")
        if can_log_out:
            with ui.element("form").props("method=post action=/logout"):
                ui.button("Log out").props("flat dense no-caps type=submit")
    banner = ui.label().classes("banner").props("role=alert")
    with ui.element("main").classes("content"):
        yield dark

    def show() -> None:
        if not is_let_in():
            ui.navigate.to("/login")
            return
        state = picture.watcher.link
        since = words.duration(max(0.0, picture.now_s() - state.since_s))
        link.set_text("connected, times in UTC" if state.connected else "times in UTC")
        banner.set_visibility(not state.connected)
        banner.set_text(
            ""
            if state.connected
            else f"No connection to the broker for {since}: {state.failure}. What is shown is as"
            " it was then; it goes on by itself once the broker is back."
        )

    show()
    ui.timer(REFRESH_S, show)


def _turn(dark: ui.dark_mode) -> None:
    order = {None: True, True: False, False: None}
    dark.set_value(order[dark.value])


class Tile:
    """A figure with its name above and a remark below."""

    def __init__(self, name: str) -> None:
        with ui.element("div").classes("tile"):
            ui.label(name).classes("name")
            self._value = ui.label(words.NOTHING).classes("value")
            self._note = ui.label().classes("note")
        self._value.props(f"data-tile='{name}'")

    def show(self, value: str, note: str = "") -> None:
        self._value.set_text(value)
        self._note.set_text(note)


@contextmanager
def card(title: str) -> Iterator[ui.element]:
    """A part of a page, with a heading."""
    with ui.element("section").classes("card") as section:
        heading(title)
        yield section


def heading(text: str) -> None:
    with ui.element("h2"):
        ui.label(text)


def title(text: str) -> None:
    """The page's own heading."""
    with ui.element("h1").classes("title"):
        ui.label(words.short(text)).mark("title")


class ChartCard:
    """A chart under a heading, with a sentence where there is nothing to draw yet."""

    def __init__(self, title: str, draw: Callable[[], charts.Options], *, empty: str) -> None:
        self._draw = draw
        with card(title):
            self._empty = ui.label(empty).classes("empty small")
            self._chart = ui.echart(draw()).classes("chart")
        self.show()

    def show(self) -> None:
        """Draws it anew."""
        options = self._draw()
        nothing = charts.without_data(options)
        self._empty.set_visibility(nothing)
        self._chart.set_visibility(not nothing)
        self._chart.options.clear()
        self._chart.options.update(options)
        self._chart.update()


class ChartCards:
    """The charts of a page, side by side; drawn at every second refresh."""

    def __init__(self) -> None:
        self._cards: list[ChartCard] = []
        self._refreshes = 0
        self._row = ui.element("div").classes("charts")

    def add(self, title: str, draw: Callable[[], charts.Options], *, empty: str) -> None:
        """One more; `empty` is said where there is nothing to draw yet."""
        with self._row:
            self._cards.append(ChartCard(title, draw, empty=empty))

    def refresh(self) -> None:
        """Draws them anew, if it is time for that."""
        self._refreshes += 1
        if self._refreshes % DRAWN_EVERY == 0:
            for one in self._cards:
                one.show()


def table(
    columns: Mapping[str, str],
    *,
    wide: Sequence[str] = (),
    left: Sequence[str] = (),
) -> ui.table:
    """An empty table: titles by field. `wide` ones are hidden on phones, `left` ones are texts."""
    shown: list[dict[str, Any]] = [
        {
            "name": field,
            "label": title,
            "field": field,
            "align": "left" if field in left else "right",
            "classes": "wide" if field in wide else "",
            "headerClasses": "wide" if field in wide else "",
        }
        for field, title in columns.items()
    ]
    element = ui.table(columns=shown, rows=[], row_key="key", pagination=ROWS_A_PAGE)
    element.classes("table").props("flat dense hide-pagination color=primary")
    element.set_visibility(False)
    return element


def show_rows(element: ui.table, rows: list[dict[str, Any]]) -> None:
    """Shows rows, where they are others than before; without any there is no table."""
    element.set_visibility(bool(rows))
    element.props["hide-pagination"] = len(rows) <= ROWS_A_PAGE
    if element.rows != rows:
        element.rows = rows
