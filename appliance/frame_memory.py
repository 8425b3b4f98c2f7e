"""The memory that waiting frames may take, undecoded and decoded, and whose they are."""

from __future__ import annotations

import threading


class FrameMemory:
    """Counts the bytes of frames that wait. Called from several threads.

    A tenant may hold as much as is left free for all: alone half of the whole, and the less, the
    more others hold (dynamic thresholds, Choudhury and Hahne 1998). So there is always room for a
    tenant that holds nothing. Where nothing waits at all, a frame of any size may.
    """

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._total = 0

    @property
    def held_bytes(self) -> int:
        """What all that waits takes."""
        return self._total

    def take(self, tenant: str, size_bytes: int) -> bool:
        """Whether a frame may wait; from then on it counts."""
        with self._lock:
            held = self._held.get(tenant, 0) + size_bytes
            if not size_bytes:
                return True
            if self._total and held > self._max_bytes - self._total:
                return False
            self._held[tenant] = held
            self._total += size_bytes
            return True

    def give_back(self, tenant: str, size_bytes: int) -> None:
        """A frame waits no more."""
        with self._lock:
            held = self._held.get(tenant, 0) - size_bytes
            self._total -= size_bytes
            if held > 0:
                self._held[tenant] = held
            else:
                self._held.pop(tenant, None)
