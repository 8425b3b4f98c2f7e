"""What the broker says of what it was sent, matched by packet identifier."""

from __future__ import annotations

import threading
from collections.abc import Callable

from paho.mqtt.reasoncodes import ReasonCode

Said = Callable[[ReasonCode], None]


class Acknowledgements:
    """Calls whoever waits for an acknowledgement, once, whichever of the two comes first.

    paho gives a packet its identifier while it sends it, so that the network thread can have the
    answer before the sender knows what to wait for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, Said] = {}
        self._early: dict[int, ReasonCode] = {}

    def expect(self, packet_id: int, said: Said) -> None:
        """Has `said` called with the broker's reason for this packet; by the sender."""
        with self._lock:
            reason = self._early.pop(packet_id, None)
            if reason is None:
                self._waiting[packet_id] = said
        if reason is not None:
            said(reason)

    def came(self, packet_id: int, reason: ReasonCode) -> None:
        """Passes on what the broker said; by the network thread."""
        with self._lock:
            said = self._waiting.pop(packet_id, None)
            if said is None:
                self._early[packet_id] = reason
        if said is not None:
            said(reason)
