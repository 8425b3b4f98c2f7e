"""A table that keeps its order, its filter and its cursor while its rows change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from appliance.top.rows import MOST_ROWS, Cell, Column, Place, Row


class FleetTable(DataTable[Text]):
    """Rows sorted by a column, those first that mattered before the filter was set."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", key_display="Enter"),
        Binding("left", "app.step(-1)", show=False),
        Binding("right", "app.step(1)", show=False),
        Binding("shift+left", "scroll_left", show=False),
        Binding("shift+right", "scroll_right", show=False),
    ]

    def __init__(
        self, columns: Sequence[Column], *, table_id: str, sort_by: str, descending: bool = False
    ) -> None:
        super().__init__(id=table_id, cursor_type="row", zebra_stripes=False)
        self._all = tuple(columns)
        self._shown: tuple[int, ...] = ()
        self._sort_by = next(n for n, one in enumerate(columns) if one.title == sort_by)
        self._descending = descending
        self._rows: tuple[Row, ...] = ()
        self._drawn: list[Row] = []
        self._widths: list[int] = []
        self._filter = ""
        self.matching = 0
        """How many rows there are that the filter lets pass; MOST_ROWS of them are shown."""

    @property
    def place(self) -> Place | None:
        """What the row under the cursor is about."""
        row = self.cursor_row
        return self._drawn[row].place if 0 <= row < len(self._drawn) else None

    def point_at(self, place: Place) -> None:
        """Puts the cursor on what is about a place, where that is shown."""
        for number, row in enumerate(self._drawn):
            if row.place == place:
                self.move_cursor(row=number, animate=False)

    def show(self, rows: Sequence[Row], filter_text: str) -> None:
        """Brings it up to date; the cursor stays on its row, wherever that goes."""
        self._rows, self._filter = tuple(rows), filter_text
        self._draw()

    def sort_by_next(self) -> None:
        """Sorts by the next of the columns that are shown."""
        place = self._shown.index(self._sort_by) if self._sort_by in self._shown else -1
        self._sort_by = self._shown[(place + 1) % len(self._shown)]
        self._draw(anew=True)

    def reverse(self) -> None:
        """Turns the order around."""
        self._descending = not self._descending
        self._draw(anew=True)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        chosen = self._shown[event.column_index]
        self._descending = not self._descending if chosen == self._sort_by else False
        self._sort_by = chosen
        self._draw(anew=True)

    def on_resize(self) -> None:
        self._draw()

    def _draw(self, *, anew: bool = False) -> None:
        cells = self.app.size.width
        shown = tuple(n for n, one in enumerate(self._all) if cells >= one.from_cells)
        rows = self._in_order()
        is_same = shown == self._shown and [a.key for a in rows] == [b.key for b in self._drawn]
        widths = [self._width(rows, n) for n in shown]
        if anew or not is_same or self._are_too_narrow(widths):
            self._draw_anew(rows, shown, widths)
        else:
            self._draw_changes(rows)

    def _in_order(self) -> list[Row]:
        found = [row for row in self._rows if not self._filter or row.mentions(self._filter)]
        self.matching = len(found)
        known = [row for row in found if self._order(row) is not None]
        known.sort(key=self._order, reverse=self._descending)
        return [*known, *(row for row in found if self._order(row) is None)][:MOST_ROWS]

    def _order(self, row: Row) -> Any:
        return row.cells[self._sort_by].order

    def _are_too_narrow(self, widths: list[int]) -> bool:
        return any(wanted > drawn for wanted, drawn in zip(widths, self._widths, strict=True))

    def _width(self, rows: list[Row], n: int) -> int:
        """How many cells a column needs."""
        # Textual would widen columns by itself, but draws a cell that has changed before that.
        longest = max((cell_len(row.cells[n].text) for row in rows), default=0)
        return max(self._heading(n).cell_len, min(longest, self._most_cells(n)))

    def _draw_anew(self, rows: list[Row], shown: tuple[int, ...], widths: list[int]) -> None:
        row = self.cursor_row
        kept = self._drawn[row].key if 0 <= row < len(self._drawn) else None
        self._shown, self._drawn, self._widths = shown, rows, widths
        self.clear(columns=True)
        for n, width in zip(shown, widths, strict=True):
            self.add_column(self._heading(n), key=str(n), width=width)
        for one in rows:
            self.add_row(*(self._text(one.cells[n], n) for n in shown), key=one.key)
        places = {one.key: number for number, one in enumerate(rows)}
        if kept in places:
            self.move_cursor(row=places[kept], animate=False)

    def _draw_changes(self, rows: list[Row]) -> None:
        for number, (before, now) in enumerate(zip(self._drawn, rows, strict=True)):
            for place, n in enumerate(self._shown):
                if before.cells[n] != now.cells[n]:
                    text = self._text(now.cells[n], n)
                    self.update_cell_at(Coordinate(number, place), text)
        self._drawn = rows

    def _heading(self, n: int) -> Text:
        column = self._all[n]
        sign = ("▼" if self._descending else "▲") if n == self._sort_by else ""
        return Text(f"{column.title}{sign}", justify="right" if column.is_figure else "left")

    def _text(self, cell: Cell, n: int) -> Text:
        # As Text, since what others named may look like markup.
        column = self._all[n]
        text = Text(cell.text, cell.style, justify="right" if column.is_figure else "left")
        most = self._most_cells(n)
        if cell_len(cell.text) > most:
            text.truncate(most, overflow="ellipsis")
        return text

    def _most_cells(self, n: int) -> int:
        return self._all[n].most_cells_in(self.app.size.width)
