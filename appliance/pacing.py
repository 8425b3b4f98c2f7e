"""How a budget is spread over a period: a price on energy that follows what is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST_STEP, GREATEST_STEP = 0.1, 0.5
"""How far one answer moves the price, where it cost twice what it might: the fewer are still to
come, the further. Between these it is one over the square root of their number, as in the
analyses."""

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

    def follow(self, spent_j: float, *, target_j: float, to_come: float) -> None:
        """Moves the price after an answer, by what it cost and what it might have.

        `to_come` is how many more are expected to be paid from the same budget.
        """
        if self.price is None:
            return
        over = MOST_OVER if target_j <= 0.0 else min(MOST_OVER, spent_j / target_j - 1.0)
        step = min(GREATEST_STEP, max(SMALLEST_STEP, 1.0 / math.sqrt(max(1.0, to_come))))
        moved = self.price * math.exp(step * over)
        self.price = min(max(moved, self._first_price / RANGE), self._first_price * RANGE)
