"""Whether another client keeps taking a session over, and how long it is left to that one."""

from __future__ import annotations

SHORT_S = 5.0
SHORT_ONES = 5
"""So many connections in a row that ended so soon are taken for a fight: Mosquitto 2.0.11 gives no
reason where another client has given the same id."""

STANDS_AFTER_S = 180.0
"""How long a session must not be taken over to count as one's own again."""

LONGEST_RETRY_S = 60


class Takeovers:
    """Two clients of one id end each other's connections: each time this one waits twice as long.

    Told the time.
    """

    def __init__(self, first_retry_s: int) -> None:
        self._first_retry_s = first_retry_s
        self._count = 0
        self._last_s = 0.0
        self._short_ones = 0

    def ended(self, now_s: float, *, lasted_s: float, is_told: bool) -> None:
        """Notes that a connection was lost, and whether the broker said that it was taken over."""
        self._short_ones = self._short_ones + 1 if lasted_s < SHORT_S else 0
        goes_on = self.count(now_s) > 0 and lasted_s < STANDS_AFTER_S
        if is_told or goes_on or self._short_ones >= SHORT_ONES:
            self._count = self.count(now_s) + 1
            self._last_s = now_s

    def count(self, now_s: float) -> int:
        """How often it was taken over, since it last stood for long."""
        return self._count if now_s - self._last_s < STANDS_AFTER_S else 0

    def retry_s(self, now_s: float) -> int:
        """How long to wait before a connection is tried again."""
        count = self.count(now_s)
        if not count:
            return self._first_retry_s
        return min(LONGEST_RETRY_S, max(1, self._first_retry_s) << min(count, 16))
