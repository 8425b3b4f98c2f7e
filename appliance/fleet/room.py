"""Room for a bounded number of things that are heard of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

FORGOTTEN_AFTER_S = 600.0
"""What was not heard of for so long makes room for others, where there is none left."""


class Heard(Protocol):
    """What is kept: it knows when it was last heard of."""

    heard_s: float


Key = TypeVar("Key")


class Room(Generic[Key]):
    """Says whether one more may be kept, and lets go of the one that was silent for longest.

    `forget` is given its key, and takes it out.
    """

    def __init__(self, limit: int, *, forget: Callable[[Key], object]) -> None:
        self._limit = limit
        self._forget = forget
        self._full_until_s = -math.inf
        """Before then it need not be looked for one to let go of."""

    def is_there(self, kept: Mapping[Key, Heard], now_s: float) -> bool:
        """Whether there is room, after one was let go of where that had to be."""
        if len(kept) < self._limit:
            return True
        if now_s < self._full_until_s:
            return False
        oldest = min(kept, key=lambda key: kept[key].heard_s)
        self._full_until_s = kept[oldest].heard_s + FORGOTTEN_AFTER_S
        if now_s < self._full_until_s:
            return False
        self._forget(oldest)
        return True
