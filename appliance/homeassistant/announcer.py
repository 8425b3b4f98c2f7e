"""Decides which document Home Assistant is told next; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

EVERY_S = 1.0
"""A document has some 2 kB: one at a time leaves room beside telemetry on a thin line."""

LONGEST_DELAY_S = 5.0
"""Where Home Assistant starts, all of its devices hear of it at once; each waits up to so long."""


SETTLE_S = 3.0
"""How long Home Assistant is given to take up the last document, before states come for it."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A document for a topic; an empty one makes its device vanish."""

    topic: str
    document: bytes


class Announcer:
    """Owns what was told so far. Told the time, it gives one announcement after the other.

    `announced` are topics that documents may lie on from before.
    """

    def __init__(self, *, announced: Iterable[str], random: Random) -> None:
        self._random = random
        self._told: dict[str, bytes | None] = dict.fromkeys(announced)
        self._due_s = -math.inf
        self._settled_s = math.inf
        self._unsettled = False

    def repeat(self) -> None:
        """Has everything told anew at once, where the broker may have lost it."""
        self._told = dict.fromkeys(self._told)

    def born(self, now_s: float) -> None:
        """Has everything told anew in a moment, since Home Assistant has started."""
        self.repeat()
        self._due_s = now_s + self._random.uniform(0.0, LONGEST_DELAY_S)

    def next(self, now_s: float, wanted: Mapping[str, bytes]) -> Announcement | None:
        """What is to be told now, so that what is wanted is what was told; None for nothing."""
        if now_s < self._due_s:
            return None
        announcement = self._first_difference(wanted)
        if announcement is not None:
            self._due_s = now_s + EVERY_S
            self._told[announcement.topic] = announcement.document
            self._settled_s, self._unsettled = now_s + SETTLE_S, True
        return announcement

    def has_settled(self, now_s: float, wanted: Mapping[str, bytes]) -> bool:
        """Whether all was told a moment ago: true once after each change."""
        settled = self._unsettled and now_s >= self._settled_s
        if not settled or self._first_difference(wanted) is not None:
            return False
        self._unsettled = False
        return True

    def forget(self, topic: str) -> None:
        """Notes that the broker has dropped what lay on a topic."""
        self._told.pop(topic, None)

    def _first_difference(self, wanted: Mapping[str, bytes]) -> Announcement | None:
        for topic, told in self._told.items():
            if topic not in wanted and told != b"":
                return Announcement(topic, b"")
        for topic, document in wanted.items():
            if self._told.get(topic) != document:
                return Announcement(topic, document)
        return None
