"""Figures with their names, in lines that fit a width: with a bar, or with how they went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from numpy.typing import ArrayLike
from rich.text import Text

from appliance.fleet.words import NOTHING
from appliance.top.glyphs import bar, shade, shares, sparkline

_NAME_CELLS = 14
_VALUE_CELLS = 9
_NOTE_CELLS = 34
_MOST_DRAWN_CELLS = 120
"""As many of the latest figures are told of exactly; what is older is merged."""
_LEAST_DRAWN_CELLS = 6
_NARROW_CELLS = _NAME_CELLS + _VALUE_CELLS + _NOTE_CELLS + 4 + _LEAST_DRAWN_CELLS
"""In less a remark stands below."""
_INDENT = "  "
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauge:
    """A name, a figure, what is drawn of it, and a remark.

    With a fraction and a history it has a bar and, beside it, how it went.
    """

    name: str
    value: str = ""
    note: str = ""
    fraction: float | None = None
    history: ArrayLike | None = None
    most: float | None = None
    """What the history is drawn up to, at least."""
    is_alarm: bool = False

    def line(self, width: int, *, note_cells: int = _NOTE_CELLS) -> Text:
        """The gauge in a line of a width, or in two where the remark has no room beside it."""
        cells = drawn_cells(width, note_cells=note_cells)
        drawn = Text(self._drawn(cells), "cyan")
        return _line(self, drawn, Text(self.note), width)

    def _drawn(self, cells: int) -> str:
        if self.history is None:
            return bar(self.fraction, cells)
        if self.fraction is None:
            return sparkline(self.history, cells, most=self.most)
        half = cells // 2
        went = sparkline(self.history, cells - half - 1, most=self.most)
        return f"{bar(self.fraction, half)} {went}"


def figures_cells(terminal_cells: int) -> int:
    """How wide lines are in a terminal: a cell is left free at each side, and for a scroll bar."""
    return max(terminal_cells - 3, 1)


def drawn_cells(width: int, *, note_cells: int = _NOTE_CELLS) -> int:
    """How many cells there are to draw in, in a line of a width."""
    beside = 0 if width < _NARROW_CELLS else note_cells
    left = width - _NAME_CELLS - _VALUE_CELLS - beside - 4
    return min(max(left, _LEAST_DRAWN_CELLS), _MOST_DRAWN_CELLS)


def exits_lines(counts: Mapping[int, int], width: int) -> list[Text]:
    """From which exits answers came, side by side, each in a shade of its own.

    What the shades mean stands beside it, or below where there are many.
    """
    total = sum(counts.values())
    if not total:
        return [Gauge(name="exits", value=NOTHING, note="no answer in the last window").line(width)]
    exits = [exit_ for exit_, count in sorted(counts.items()) if count]
    drawn, legend = Text(), Text()
    parts = shares([counts[exit_] for exit_ in exits], drawn_cells(width))
    for exit_, share in zip(exits, parts, strict=True):
        colour = _COLOURS[exit_ % len(_COLOURS)]
        drawn.append(shade(exit_) * share, colour)
        legend.append("  " if legend else "").append(shade(exit_), colour)
        legend.append(f"{exit_}: {counts[exit_] / total:.0%}")
    gauge = Gauge(name="exits", value=str(total))
    if legend.cell_len <= _NOTE_CELLS:
        return [_line(gauge, drawn, legend, width)]
    return [_line(gauge, drawn, Text("answers in the last window"), width), legend]


def column_cells(width: int) -> int:
    """How wide each of two columns is in a width; all of it where they stand below each other."""
    return width if width < _NARROW_CELLS else width // 2


def side_by_side(left: Iterable[Text], right: Iterable[Text], width: int) -> Text:
    """Two columns of lines, each half of a width; below each other where that is too little."""
    half, lefts, rights = width // 2, list(left), list(right)
    if width < _NARROW_CELLS:
        return Text("\n").join([*lefts, *rights])
    lines = []
    for number in range(max(len(lefts), len(rights))):
        line = lefts[number].copy() if number < len(lefts) else Text()
        line.truncate(half, pad=True)
        if number < len(rights):
            line.append_text(rights[number])
        lines.append(line)
    return Text("\n").join(lines)


def _line(gauge: Gauge, drawn: Text, note: Text, width: int) -> Text:
    style = "bold red" if gauge.is_alarm else ""
    value = f"{'!' if gauge.is_alarm else ''}{gauge.value}"
    line = Text(gauge.name, no_wrap=True)
    line.truncate(_NAME_CELLS, overflow="ellipsis", pad=True)
    line.append(f" {value.rjust(_VALUE_CELLS)}", style or "bold")
    line.append(" ").append_text(drawn)
    below = Text()
    if width < _NARROW_CELLS and note:
        below.append("\n").append(_INDENT).append_text(note)
        below.truncate(max(width, 1) + 1, overflow="ellipsis")
    else:
        line.append("  ").append_text(note)
    line.truncate(max(width, 1), overflow="ellipsis")
    return line.append_text(below)
