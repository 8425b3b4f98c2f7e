"""What a tenant's last seconds were like: arrivals, answers, energy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

WINDOW_S = 10.0
"""How far rates and percentiles look back."""

ENERGY_WINDOW_S = 60.0
MOST_OBSERVED = 1000


@dataclass(kw_only=True, slots=True)
class Activity:
    """What a tenant's last seconds were like. Times in monotonic seconds."""

    _arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_OBSERVED))
    _answers: deque[tuple[float, float, float]] = field(
        default_factory=lambda: deque(maxlen=MOST_OBSERVED)
    )
    _spent: deque[tuple[float, float]] = field(default_factory=deque)

    def arrived(self, now_s: float) -> None:
        """Notes that a request came."""
        self._arrivals.append(now_s)

    def answered(self, now_s: float, *, response_time_s: float, queue_time_s: float) -> None:
        """Notes what a request took."""
        self._answers.append((now_s, response_time_s, queue_time_s))

    def spent(self, now_s: float, counter_j: float) -> None:
        """Notes what the tenant has spent since the start."""
        self._spent.append((now_s, counter_j))
        while now_s - self._spent[0][0] > ENERGY_WINDOW_S:
            self._spent.popleft()

    def arrival_rate_hz(self, now_s: float) -> float:
        """Requests a second. Where more come than are remembered, by the time that those took."""
        recent = [time_s for time_s in self._arrivals if now_s - time_s <= WINDOW_S]
        full = len(recent) == MOST_OBSERVED
        return len(recent) / (max(now_s - recent[0], 1e-3) if full else WINDOW_S)

    def p95_response_time_s(self, now_s: float) -> float | None:
        """None where nothing was answered lately."""
        times_s = [taken_s for at_s, taken_s, _ in self._answers if now_s - at_s <= WINDOW_S]
        return float(np.percentile(times_s, 95)) if times_s else None

    def queue_delay_s(self, now_s: float) -> float | None:
        """The mean time that requests waited, None where nothing was answered lately."""
        waits_s = [wait_s for at_s, _, wait_s in self._answers if now_s - at_s <= WINDOW_S]
        return sum(waits_s) / len(waits_s) if waits_s else None

    def energy_per_hour_j(self) -> float | None:
        """At the rate of the last minute; None before there is one to tell by."""
        if len(self._spent) < 2:
            return None
        (first_s, first_j), (last_s, last_j) = self._spent[0], self._spent[-1]
        return (last_j - first_j) / (last_s - first_s) * 3600.0 if last_s > first_s else None
