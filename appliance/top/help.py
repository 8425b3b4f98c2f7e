"""The keys, and what the signs mean."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

_KEYS = (
    ("1 2 3 4, ← →", "fleet, appliance, tenant, events"),
    ("↑ ↓, Enter", "choose an appliance or a tenant, open it"),
    ("Tab", "to the next table"),
    ("n p", "the next, the previous appliance or tenant"),
    ("Esc", "ends the filter; else back"),
    ("/", "only rows with a text in them"),
    ("s r", "sort by the next column; turn the order around"),
    ("Shift ← →", "move a table that is wider than the terminal"),
    ("q", "quit"),
)
_SIGNS = (
    ("● ◐ ○ ✗ ?", "online, silent, stopped, offline, unknown"),
    ("kept", "how many of the last minute's answers kept all bounds"),
    ("!", "beyond a bound, or not as it should be"),
    ("▁▂▅█", "the latest messages, the newest at the right"),
)


class Help(ModalScreen[None]):
    """Goes away with any of its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter,space", "dismiss", show=False)
    ]

    def compose(self) -> ComposeResult:
        yield Static(_help_text())


def _help_text() -> Text:
    text = Text()
    for heading, lines in (("Keys", _KEYS), ("Signs", _SIGNS)):
        text.append(f"{heading}\n", "bold")
        for sign, meaning in lines:
            text.append(f"{sign:<14}", "bold").append(f"{meaning}\n")
    return text.append("Times are UTC; everything goes by this machine's clock.")
