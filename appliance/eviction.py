"""Which engines are unloaded, so that those that are open keep within a limit of memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An open engine: what it takes, and when a request last came for it (monotonic seconds)."""

    name: str
    size_bytes: int
    used_s: float


def to_unload(held: Iterable[Held], *, coming_bytes: int, limit_bytes: float) -> list[str]:
    """The engines that make room for one that comes, least recently used first.

    No more than are needed; all of them where even that is too little.
    """
    by_use = sorted(held, key=lambda one: one.used_s)
    over_bytes = coming_bytes + sum(one.size_bytes for one in by_use) - limit_bytes
    names = []
    for one in by_use:
        if over_bytes <= 0:
            break
        names.append(one.name)
        over_bytes -= one.size_bytes
    return names
