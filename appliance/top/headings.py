"""The line above a table, or above a view."""

from __future__ import annotations

from rich.text import Text

from appliance.fleet.words import short
from appliance.top.rows import MOST_ROWS


def table_heading(title: str, count: int, filter_text: str = "", *, empty: str = "") -> Text:
    """What the table below holds, how much of it, and by what it was filtered."""
    text = Text(no_wrap=True, overflow="ellipsis").append(title, "bold")
    text.append(f" {count}" if count <= MOST_ROWS else f" {MOST_ROWS} of {count}")
    if filter_text:
        text.append(f"   with {short(filter_text)!r} in it")
    if not count and empty and not filter_text:
        text.append(f"   {empty}")
    return text


def name_text(name: str) -> Text:
    """The name of what a view shows."""
    return Text(short(name), "bold", no_wrap=True, overflow="ellipsis")
