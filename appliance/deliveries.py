"""Deliveries in hand: what each still waits for, and the order in which they are acknowledged."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Flag, auto
from itertools import count


class Done(Flag):
    """What must have happened before a delivery may be acknowledged."""

    NOTHING = 0
    PUBLISHED = auto()
    LOGGED = auto()
    BOTH = PUBLISHED | LOGGED


@dataclass(slots=True)
class _Delivery:
    packet_id: int
    done: Done = Done.NOTHING


class Deliveries:
    """QoS 1 messages that were received and not yet acknowledged, in the order of their receipt.

    MQTT wants acknowledgements in that order (MQTT-4.6.0-2), though replies finish in another. A
    connection that breaks makes the broker deliver again what it has not seen acknowledged, under
    the same packet id: such a delivery is known here, and not handed on a second time.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, _Delivery] = {}
        self._order: deque[int] = deque()
        self._parked: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def receive(self, packet_id: int, *, duplicate: bool) -> int | None:
        """The number of a new delivery, or None for one that is in hand already."""
        parked = self._parked.pop(packet_id, None)
        if parked is not None and duplicate:
            self._order.append(parked)
            return None
        if parked is not None:
            del self._open[parked]
        number = next(self._numbers)
        self._open[number] = _Delivery(packet_id)
        self._order.append(number)
        return number

    def mark(self, number: int, done: Done) -> None:
        """Notes that a delivery's reply was published or logged; unknown numbers are passed by."""
        delivery = self._open.get(number)
        if delivery is not None:
            delivery.done |= done

    def take_acknowledgeable(self) -> list[int]:
        """The packet ids that may be acknowledged now, in order; they are forgotten here."""
        packet_ids = []
        while self._order and self._open[self._order[0]].done == Done.BOTH:
            packet_ids.append(self._open.pop(self._order.popleft()).packet_id)
        return packet_ids

    def disconnected(self) -> None:
        """The connection is gone: nothing is acknowledged until it is delivered again."""
        for number in self._order:
            self._parked[self._open[number].packet_id] = number
        self._order.clear()

    def connected(self, *, session_present: bool) -> None:
        """A connection stands; without the old session the broker delivers nothing again."""
        if not session_present:
            for number in self._parked.values():
                del self._open[number]
            self._parked.clear()
