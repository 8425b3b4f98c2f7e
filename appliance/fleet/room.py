"""Room for a bounded number of things that are heard of."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

FORGOTTEN_AFTER_S = 600.0
"""What was not heard of for so long makes room for others, where there is none left."""


class Heard(Protocol):
    """What is kept: it knows when it was last heard of."""

    heard_s: float


Key = TypeVar("Key")
Kept = TypeVar("Kept", bound=Heard)


class Room:
    """Says whether one more may be kept, and lets go of the one that was silent for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._full_until_s = -math.inf
        """Before then it need not be looked for one to let go of."""

    def is_there(self, kept: dict[Key, Kept], now_s: float) -> bool:
        """Whether there is room, after one was let go of where that had to be."""
        if len(kept) < self._limit:
            return True
        if now_s < self._full_until_s:
            return False
        oldest = min(kept, key=lambda key: kept[key].heard_s)
        self._full_until_s = kept[oldest].heard_s + FORGOTTEN_AFTER_S
        if now_s < self._full_until_s:
            return False
        del kept[oldest]
        return True
