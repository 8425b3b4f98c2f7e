"""What was handed to the network and has not gone out: whose it is, and how much it may be."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_UNSENT_BYTES = 8_000_000
"""How much of QoS 0 may wait for a broker that does not read."""


@dataclass(frozen=True, slots=True)
class _Message:
    delivery: int
    unacknowledged_bytes: int
    """What it takes of the room for QoS 0; nothing with QoS 1, which the deliveries bound."""


@dataclass(kw_only=True, slots=True)
class Outgoing:
    """Messages on their way, by the number that the client gave them. Pure, called under a lock.

    A message can be out before its number is known: then `sent` comes before `handed_over`.
    """

    unsent: int = 0
    """How many messages of QoS 0 were dropped, since the start."""
    _messages: dict[int, _Message] = field(default_factory=dict)
    _unsent_bytes: int = 0
    _calls: int = 0
    _early: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._messages)

    def may_begin(self, size_bytes: int, *, qos: int) -> bool:
        """Whether a message may be handed over now; one that may not is dropped, and counted."""
        if qos == 0 and self._unsent_bytes + size_bytes > MAX_UNSENT_BYTES:
            self.unsent += 1
            return False
        self._calls += 1
        return True

    def handed_over(self, number: int, size_bytes: int, *, qos: int, delivery: int) -> int:
        """Notes a message's number; its delivery where it is out already, else 0."""
        self._calls -= 1
        out_already = number in self._early
        if not out_already:
            size_bytes = 0 if qos else size_bytes
            self._messages[number] = _Message(delivery, size_bytes)
            self._unsent_bytes += size_bytes
        if not self._calls:
            self._early.clear()
        return delivery if out_already else 0

    def sent(self, number: int) -> int:
        """Notes that a message is out: with QoS 1 the broker has it. Its delivery, 0 for none."""
        message = self._messages.pop(number, None)
        if message is not None:
            self._unsent_bytes -= message.unacknowledged_bytes
            return message.delivery
        if self._calls:
            self._early.add(number)
        return 0

    def disconnected(self) -> None:
        """What is of QoS 0 is lost with the connection."""
        lost = [
            number for number, message in self._messages.items() if message.unacknowledged_bytes
        ]
        for number in lost:
            del self._messages[number]
        self._unsent_bytes = 0
