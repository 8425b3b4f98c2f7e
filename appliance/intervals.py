"""How far a rate can be from what was counted: bounds that hold at every moment at once."""

from __future__ import annotations

import math
from collections.abc import Callable

_FEWER = (0.03, 0.15, 0.4)
_MORE = (4 / 3, 2.0, 4.0, 8.0)
"""The rates that are bet on, in multiples of the one that is to be refuted."""

_HALVINGS = 40


def upper_bound(failures: int, trials: int, *, error: float) -> float:
    """What the rate of failures lies below, at all times, but for a probability of `error`.

    A bet that the rate is below m wins (1 - q) / (1 - m) with each success and q / m with each
    failure, for some q < m. If the rate is m or more, nobody can expect to gain, so the wealth of
    an even mixture of such bets ever reaches 1 / error with probability `error` at most (Ville
    1939; Robbins 1970; as a confidence sequence, Waudby-Smith and Ramdas 2024, Estimating means of
    bounded random variables by betting). The bound is the lowest m which that wealth refutes. It
    may be asked after every trial, where that of Clopper and Pearson holds for one moment that was
    fixed beforehand.
    """
    return _least(lambda rate: refutes(failures, trials, rate=rate, error=error))


def lower_bound(failures: int, trials: int, *, error: float) -> float:
    """What the rate of failures lies above, at all times, but for a probability of `error`."""
    needed = -math.log(error)
    return _least(lambda rate: _log_wealth(failures, trials, rate, _MORE) < needed)


def refutes(failures: int, trials: int, *, rate: float, error: float) -> bool:
    """Whether the counts refute that failures are as frequent as `rate`, or more so."""
    return _log_wealth(failures, trials, rate, _FEWER) >= -math.log(error)


def _log_wealth(failures: int, trials: int, rate: float, multiples: tuple[float, ...]) -> float:
    """The logarithm of what bets on multiples of a rate have made of a stake of one."""
    if not 0.0 < rate < 1.0:
        return -math.inf if rate <= 0.0 else math.inf
    wealths = [
        _times_log(failures, multiple)
        + (trials - failures) * (math.log1p(-multiple * rate) - math.log1p(-rate))
        for multiple in multiples
        if multiple * rate < 1.0
    ]
    largest = max(wealths, default=-math.inf)
    if largest == -math.inf:
        return largest
    total = sum(math.exp(wealth - largest) for wealth in wealths)
    return largest + math.log(total / len(multiples))


def _times_log(count: int, value: float) -> float:
    if count == 0:
        return 0.0
    return count * math.log(value) if value > 0.0 else -math.inf


def _least(holds: Callable[[float], bool]) -> float:
    """The lowest fraction from which on a condition holds, 1 where it never does."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
