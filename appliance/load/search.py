"""The search for the highest rate that a system keeps up with."""

from __future__ import annotations

from collections.abc import Callable

PRECISION = 1.05
"""Where the lowest rate that failed is within this factor of the best one, the search ends."""

FURTHEST = 12
"""How often the rate is doubled or halved before the search gives up."""


def highest_rate(keeps: Callable[[float], bool], *, start_hz: float) -> float | None:
    """The highest rate at which `keeps` was seen to hold, or None where it held at none.

    From the start it doubles or halves until the rate is between one that holds and one that does
    not, and then halves the gap on a logarithmic scale.
    """
    good_hz, bad_hz = _bracket(keeps, start_hz)
    if good_hz is None or bad_hz is None:
        return good_hz
    while bad_hz / good_hz > PRECISION:
        middle_hz = (good_hz * bad_hz) ** 0.5
        if keeps(middle_hz):
            good_hz = middle_hz
        else:
            bad_hz = middle_hz
    return good_hz


def _bracket(keeps: Callable[[float], bool], start_hz: float) -> tuple[float | None, float | None]:
    """A rate that holds and a higher one that does not; either is None where none was found."""
    rate_hz = start_hz
    if keeps(rate_hz):
        for _ in range(FURTHEST):
            if not keeps(2.0 * rate_hz):
                return rate_hz, 2.0 * rate_hz
            rate_hz *= 2.0
        return rate_hz, None
    for _ in range(FURTHEST):
        if keeps(rate_hz / 2.0):
            return rate_hz / 2.0, rate_hz
        rate_hz /= 2.0
    return None, rate_hz
