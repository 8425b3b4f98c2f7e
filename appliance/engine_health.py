"""When an engine whose stages fail is reloaded, and when it is taken out of service."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

MOST_FAILURES = 3
WINDOW_S = 60.0
"""So many failures within so long take an engine out of service."""


class Remedy(Enum):
    """What is done about a failure."""

    NOTHING = "nothing"
    RELOAD = "reload"
    TAKE_OUT = "take out"


@dataclass(slots=True)
class Health:
    """An engine's failures of the last minute. Pure: it is told the time, in monotonic seconds."""

    _failed_s: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_FAILURES))

    def failed(self, now_s: float) -> Remedy:
        """What the failure of a stage asks for: the first in a minute a reload, the third the end.

        A reload that did not help is not tried again while the minute lasts.
        """
        while self._failed_s and now_s - self._failed_s[0] > WINDOW_S:
            self._failed_s.popleft()
        self._failed_s.append(now_s)
        if len(self._failed_s) == MOST_FAILURES:
            return Remedy.TAKE_OUT
        return Remedy.RELOAD if len(self._failed_s) == 1 else Remedy.NOTHING
