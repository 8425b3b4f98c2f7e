"""A token bucket: how fast something may go on, and how much of it at once."""

from __future__ import annotations

import math


class TokenBucket:
    """Fills by `rate_per_s` up to `capacity`; what is taken empties it. Pure: it is told the time.

    An amount above the capacity is let through by a full bucket, which owes the rest then: so
    that no frame is too large for ever, and the rate holds all the same. In any T seconds it lets
    through less than `capacity + rate_per_s * T` and the last amount taken.
    """

    def __init__(self, *, rate_per_s: float, capacity: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = capacity
        self._level = capacity
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long it is until so much may be taken; 0 for now."""
        if math.isinf(self._rate_per_s):
            return 0.0
        self._fill(now_s)
        return max(0.0, (min(amount, self._capacity) - self._level) / self._rate_per_s)

    def take(self, amount: float, now_s: float) -> None:
        """Takes so much out, which may be taken now."""
        if not math.isinf(self._rate_per_s):
            self._fill(now_s)
            self._level -= amount

    def _fill(self, now_s: float) -> None:
        # A time before the last one fills nothing, and is not gone back to.
        gained = max(0.0, now_s - self._at_s) * self._rate_per_s
        self._level = min(self._capacity, self._level + gained)
        self._at_s = max(self._at_s, now_s)
