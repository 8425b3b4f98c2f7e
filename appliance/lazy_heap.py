"""A heap whose entries can leave before they come to its top."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_FEWEST = 64


class LazyHeap(Generic[T]):
    """Entries by key, the smallest first, equal keys in the order of their coming.

    `is_live` says whether an entry still stands under a key. One that does not stays where it
    lies until it is met, or until as many have come as were there at the last sweep.
    """

    def __init__(self, is_live: Callable[[Any, T], bool]) -> None:
        self._is_live = is_live
        self._items: list[tuple[Any, int, T]] = []
        self._ticket = count()
        self._sweep_at = _FEWEST

    def push(self, key: Any, entry: T) -> None:
        """Puts an entry in; all keys of a heap compare with one another."""
        if len(self._items) >= self._sweep_at:
            self._items = [item for item in self._items if self._is_live(item[0], item[-1])]
            heapq.heapify(self._items)
            self._sweep_at = max(_FEWEST, 2 * len(self._items))
        heapq.heappush(self._items, (key, next(self._ticket), entry))

    def top(self) -> tuple[Any, T] | None:
        """The key and the entry that come first, None where there is none."""
        items = self._items
        while items:
            key, _, entry = items[0]
            if self._is_live(key, entry):
                return key, entry
            heapq.heappop(items)
        return None

    def pop(self) -> tuple[Any, T] | None:
        """Takes out the entry that comes first, None where there is none."""
        top = self.top()
        if top is not None:
            heapq.heappop(self._items)
        return top
