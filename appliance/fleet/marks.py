"""Moments worth a mark on the time axis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_MARKS = 100
"""How many of one tenant or appliance are kept."""

MAX_CHARACTERS = 200


class MarkKind(str, Enum):
    """What happened."""

    MODE = "mode"
    POLICY = "policy"
    REJECTION = "rejection"
    """A policy was turned away."""
    STATUS = "status"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    at_s: float
    """In seconds since the epoch, by the clock of whoever watches."""
    kind: MarkKind
    text: str

    @classmethod
    def of(cls, kind: MarkKind, text: str, at_s: float) -> Mark:
        """A mark whose text is not longer than can be shown, however long a name in it is."""
        return cls(at_s=at_s, kind=kind, text=text[:MAX_CHARACTERS])
