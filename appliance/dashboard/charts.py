"""Charts of histories, as options for ECharts; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.fleet.history import History
from appliance.fleet.marks import Mark, MarkKind
from appliance.fleet.words import short

Options = dict[str, Any]

PALETTE = (
    "#4a90b8", "#d98e48", "#5fa777", "#a07cc0", "#c9667a", "#8a8f98", "#b8a546", "#4aa8a0",
)  # fmt: skip
"""Told apart on light and on dark ground, also by most who see few colours."""

BOUND_COLOUR = "#c0513c"
_QUIET = "#7d8795"
_GRID = "rgba(125, 135, 149, 0.22)"
_MARK_COLOURS = {
    MarkKind.MODE: "#a07cc0",
    MarkKind.POLICY: "#4a90b8",
    MarkKind.REJECTION: "#c0513c",
    MarkKind.STATUS: "#8a8f98",
}
MAX_MARKS_SHOWN = 12
NAMES_APART = 0.04
"""How much of the axis lies between two marks that are named."""

SHORTEST_S = 30.0
"""What a time axis spans at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One column of a history, and how it is drawn."""

    column: str
    name: str
    scale: float = 1.0
    """What its figures are multiplied by."""
    is_bound: bool = False
    """Drawn dashed, as what is not to be passed."""
    area: bool = False
    """Stacked upon the areas before it."""
    colour: str | None = None


def chart(  # noqa: PLR0913 - what is drawn, and how, by name
    history: History,
    lines: Sequence[Line],
    *,
    marks: Iterable[Mark] = (),
    now_s: float,
    most: float | None = None,
    smallest_step: float = 0.0,
    marks_named: bool = False,
) -> Options:
    """Lines over the time until now, which is told in UTC; those without any figure are left out.

    `most` is where the axis ends, if that is known; `smallest_step` is that of its numbers.
    """
    since_s = _begin_s(history, now_s)
    times_ms = np.round(history.times_s() * 1e3).astype(np.int64)
    drawn = [
        _series(times_ms, history.column(line.column) * line.scale, line, PALETTE[i % len(PALETTE)])
        for i, line in enumerate(lines)
    ]
    # One stays, since marks are drawn upon it.
    series = [one for one in drawn if _has_figures(one)] or drawn[:1]
    shown = [mark for mark in marks if mark.at_s >= since_s][-MAX_MARKS_SHOWN:]
    if series:
        apart_s = (now_s - since_s) * NAMES_APART if marks_named else None
        series[0]["markLine"] = _mark_line(shown, apart_s=apart_s)
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 4, "containLabel": True},
        "legend": {
            "top": 0,
            "left": 0,
            "itemWidth": 14,
            "itemHeight": 8,
            "icon": "roundRect",
            "type": "scroll",
            "textStyle": {"color": _QUIET},
        },
        # As rich text, since a tooltip is HTML otherwise, and names are what others wrote.
        "tooltip": {
            "trigger": "axis",
            "renderMode": "richText",
            "confine": True,
            "axisPointer": {"lineStyle": {"color": _GRID}},
        },
        "xAxis": {
            "type": "time",
            "min": int(since_s * 1e3),
            "max": int(now_s * 1e3),
            "axisLabel": {"color": _QUIET, "hideOverlap": True},
            "axisLine": {"lineStyle": {"color": _GRID}},
            "axisTick": {"show": False},
            "splitNumber": 5,
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            **({} if most is None else {"max": most, "interval": most / 4}),
            "minInterval": smallest_step,
            "axisLabel": {"color": _QUIET},
            "splitLine": {"lineStyle": {"color": _GRID}},
            "splitNumber": 4,
        },
        "series": series,
    }


def nothing() -> Options:
    """A chart without lines."""
    return chart(History(), (), now_s=0.0)


def lines_of(names: Iterable[str], prefix: str) -> list[Line]:
    """A line for each of the columns that start with a prefix, by name."""
    columns = sorted(name for name in names if name.startswith(prefix))
    return [Line(column=name, name=short(name[len(prefix) :])) for name in columns]


def _begin_s(history: History, now_s: float) -> float:
    times_s = history.times_s()
    first_s = float(times_s[0]) if len(times_s) else now_s
    return min(first_s, now_s - SHORTEST_S)


def _series(
    times_ms: NDArray[np.int64], values: NDArray[np.float32], line: Line, colour: str
) -> Options:
    colour = line.colour or (BOUND_COLOUR if line.is_bound else colour)
    series: Options = {
        "type": "line",
        "name": line.name,
        "data": _points(times_ms, values),
        "showSymbol": len(times_ms) < 3,
        "symbolSize": 5,
        "itemStyle": {"color": colour},
        "lineStyle": {
            "color": colour,
            "width": 1.4 if line.is_bound else 1.8,
            "type": "dashed" if line.is_bound else "solid",
        },
    }
    if line.area:
        series |= {"stack": "area", "areaStyle": {"color": colour, "opacity": 0.7}}
        series["lineStyle"] = {"width": 0}
    return series


def _points(times_ms: NDArray[np.int64], values: NDArray[np.float32]) -> list[list[float | None]]:
    known = np.isfinite(values).tolist()
    return [
        [at_ms, round(value, 4) if is_known else None]
        for at_ms, value, is_known in zip(times_ms.tolist(), values.tolist(), known, strict=True)
    ]


def _mark_line(marks: Sequence[Mark], *, apart_s: float | None) -> Options:
    """Lines at moments. Those have a name that are so far from the next; None for no names."""
    later_s = [*(mark.at_s for mark in marks), math.inf][1:]
    data = []
    for mark, next_s in zip(marks, later_s, strict=True):
        colour = _MARK_COLOURS[mark.kind]
        data.append(
            {
                "xAxis": int(mark.at_s * 1e3),
                "name": short(mark.text),
                "lineStyle": {"color": colour, "type": "dotted", "width": 1.2},
                "label": {
                    "show": apart_s is not None and next_s - mark.at_s > apart_s,
                    "formatter": "{b}",
                    "position": "insideEndTop",
                    "color": colour,
                    "fontSize": 11,
                },
            }
        )
    return {"silent": True, "symbol": "none", "animation": False, "data": data}


def without_data(options: Mapping[str, Any]) -> bool:
    """Whether a chart has nothing to show."""
    return not any(map(_has_figures, options["series"]))


def _has_figures(series: Options) -> bool:
    return any(value is not None for _, value in series["data"])
