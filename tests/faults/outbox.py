"""What a client published, and when the broker acknowledged each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from paho.mqtt.client import MQTTMessageInfo

from tests.faults.history import Push, Sent

T = TypeVar("T", Sent, Push)


class Outbox(Generic[T]):
    """Keeps book for one client, whose `on_publish` calls `acknowledged`.

    The lock is not held while paho publishes: paho holds one of its own in callbacks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._first: list[int] = []
        """The number of the connection over which each was sent first."""
        self._last: list[int | None] = []
        """The one over which its acknowledgement came."""
        self._places: dict[int, int] = {}
        self._early_s: dict[int, float] = {}
        self._connection = 0

    def publish(self, item: T, publish: Callable[[], MQTTMessageInfo]) -> None:
        """Publishes, and notes that it did."""
        with self._lock:
            place = len(self._items)
            self._items.append(item)
            self._first.append(self._connection)
            self._last.append(None)
        mid = publish().mid
        with self._lock:
            early_s = self._early_s.pop(mid, None)
            if early_s is None:
                self._places[mid] = place
            else:
                self._note(place, early_s)

    def connected(self) -> None:
        """There is a new connection, over which paho sends what is outstanding once more."""
        with self._lock:
            self._connection += 1

    def acknowledged(self, mid: int) -> None:
        """The broker has it, which may be before `publish` returned."""
        now_s = time.time()
        with self._lock:
            place = self._places.pop(mid, None)
            if place is None:
                self._early_s[mid] = now_s
            else:
                self._note(place, now_s)

    def _note(self, place: int, at_s: float) -> None:
        self._items[place] = replace(self._items[place], acknowledged_s=at_s)
        self._last[place] = self._connection

    def outstanding(self) -> int:
        """How many the broker has not acknowledged."""
        with self._lock:
            return sum(item.acknowledged_s is None for item in self._items)

    def items(self) -> list[tuple[T, int]]:
        """What was published, and how often each may have been sent."""
        with self._lock:
            return [
                (item, 1 + (self._connection if last is None else last) - first)
                for item, first, last in zip(self._items, self._first, self._last, strict=True)
            ]
