"""Figures drawn with characters, so that they can be read without colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_EMPTY = "·"
SHADES = "█▒▓░"
"""One after the other tells neighbours apart."""


def bar(fraction: float | None, cells: int) -> str:
    """A bar of so many cells, filled by a fraction of 0 to 1; empty for what is no figure."""
    if fraction is None or not math.isfinite(fraction):
        return _EMPTY * cells
    eighths = round(min(max(fraction, 0.0), 1.0) * cells * 8)
    whole, part = divmod(eighths, 8)
    filled = "█" * whole + (_EIGHTHS[part] if part else "")
    return filled + _EMPTY * (cells - len(filled))


def shares(parts: Sequence[float], cells: int) -> list[int]:
    """How many of so many cells each part gets, by largest remainders, so that they add up."""
    total = sum(parts)
    if total <= 0.0 or not math.isfinite(total):
        return [0] * len(parts)
    exact = [part / total * cells for part in parts]
    given = [int(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda n: given[n] - exact[n])
    for number in by_remainder[: cells - sum(given)]:
        given[number] += 1
    return given


def shade(number: int) -> str:
    """The character that stands for a part."""
    return SHADES[number % len(SHADES)]


def sparkline(figures: ArrayLike, cells: int, *, most: float | None = None) -> str:
    """The latest figures, a cell each, the newest at the right; a space for what is no figure.

    It goes from 0 to the largest of them, or to `most` where that is more.
    """
    latest = np.asarray(figures, dtype=np.float64)[-cells:] if cells > 0 else np.empty(0)
    known = np.isfinite(latest)
    if not known.any():
        return " " * max(cells, 0)
    top = max(float(latest[known].max()), most or 0.0)
    heights = np.clip(np.where(known, latest, 0.0) / top if top > 0.0 else known * 0.0, 0.0, 1.0)
    steps = np.rint(heights * (len(_LEVELS) - 1)).astype(int)
    drawn = (_LEVELS[step] if there else " " for step, there in zip(steps, known, strict=True))
    return "".join(drawn).rjust(cells)
