"""How a budget is spread over a period: a price on energy that follows what is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass

STEP = 0.05
"""How far one answer moves the price, where it cost twice what it might."""

MOST_OVER = 3.0
RANGE = 1e4
"""How far the price may go from where it began, either way."""


@dataclass(kw_only=True, slots=True)
class Pacer:
    """Goes deeper where the gain in accuracy is worth its joules, at a price in gain per joule.

    The price rises while answers cost more than the target and falls while they cost less: the
    multiplicative form of adaptive pacing (Balseiro and Gur 2019; dual mirror descent, Balseiro,
    Lu and Mirrokni 2020), which comes close to the best use of a budget that one could make
    knowing all requests beforehand.
    """

    price: float | None = None
    """None before anything was asked for."""
    _first_price: float = 1.0

    def is_worth(self, gain: float, cost_j: float) -> bool:
        """Whether something that is expected to add `gain` may cost so much."""
        if cost_j <= 0.0:
            return True
        if self.price is None and gain > 0.0:
            self.price = self._first_price = gain / cost_j
        return self.price is None or gain >= self.price * cost_j

    def follow(self, spent_j: float, *, target_j: float) -> None:
        """Moves the price after an answer, by what it cost and what it might have."""
        if self.price is None:
            return
        over = MOST_OVER if target_j <= 0.0 else min(MOST_OVER, spent_j / target_j - 1.0)
        moved = self.price * math.exp(STEP * over)
        self.price = min(max(moved, self._first_price / RANGE), self._first_price * RANGE)
