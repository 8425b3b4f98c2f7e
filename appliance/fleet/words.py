"""Figures as people read them."""

from __future__ import annotations

import math
from datetime import datetime, timezone

NOTHING = "\N{EN DASH}"
MAX_CHARACTERS = 120
_ENERGY_UNITS = (("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3))


def number(value: float | None, unit: str = "", *, digits: int = 3) -> str:
    """A figure of three digits or so, with its unit: `18.2 W`, `1240 /s`."""
    if value is None or not math.isfinite(value):
        return NOTHING
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 1
    text = f"{value:.{max(0, digits - whole)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {unit}".strip()


def energy(value_j: float | None) -> str:
    """Joules in a fitting unit."""
    if value_j is None:
        return NOTHING
    for unit, least_j in _ENERGY_UNITS:
        if abs(value_j) >= least_j:
            return number(value_j / least_j, unit)
    return number(value_j * 1e6, "µJ")


def percent(fraction: float | None) -> str:
    """A fraction in percent. What is short of all never reads 100 %, nor what is above none 0 %."""
    if fraction is None or not math.isfinite(fraction):
        return NOTHING
    digits = 1 if 0.001 <= fraction <= 0.999 or fraction in (0.0, 1.0) else 2
    text = f"{fraction * 100:.{digits}f}"
    if fraction < 1.0 and float(text) == 100.0:
        text = "99.99"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} %"


def ago(seconds: float) -> str:
    """How long ago something was."""
    if seconds < 2:
        return "now"
    return f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """A time in its largest unit: `43 s`, `12 min`, `3.5 h`, `12 d`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{number(seconds / 3600, digits=2)} h"
    return f"{seconds / 86400:.0f} d"


def clock(at_s: float) -> str:
    """A moment as the time of day, in UTC."""
    return datetime.fromtimestamp(at_s, timezone.utc).strftime("%H:%M:%S")


def short(text: str) -> str:
    r"""A text that others wrote, not longer than a line, and without characters that do things.

    Those that are not printed, such as a terminal's escape, stand as Python writes them: `\x1b`.
    """
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 1]}…"
