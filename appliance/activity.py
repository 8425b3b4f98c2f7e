"""What a tenant's last seconds were like: arrivals, answers, energy."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

WINDOW_S = 10.0
"""How far rates and percentiles look back."""

ENERGY_WINDOW_S = 60.0
MOST_OBSERVED = 1000

FEWEST_ANSWERS = 20
"""How many answers tell of a 95th percentile."""

SHORTEST_SPAN_S = 5.0
"""Over which time a rate of energy can be told."""


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

    def p95_response_time_s(self, now_s: float, since_s: float = -math.inf) -> float | None:
        """None where nothing was answered lately, or not enough yet in the short time `since_s`."""
        answers = self._answered(now_s, since_s)
        if not answers or (len(answers) < FEWEST_ANSWERS and now_s - since_s < WINDOW_S):
            return None
        return float(np.percentile([taken_s for _, taken_s, _ in answers], 95))

    def queue_delay_s(self, now_s: float, since_s: float = -math.inf) -> float | None:
        """The mean time that requests waited, None where nothing was answered lately."""
        answers = self._answered(now_s, since_s)
        return sum(wait_s for _, _, wait_s in answers) / len(answers) if answers else None

    def energy_per_hour_j(self, since_s: float = -math.inf) -> float | None:
        """At the rate of the last minute, or `since_s`; None before there is one to tell by."""
        spent = [(at_s, counter_j) for at_s, counter_j in self._spent if at_s >= since_s]
        if len(spent) < 2:
            return None
        (first_s, first_j), (last_s, last_j) = spent[0], spent[-1]
        if last_s == first_s or (since_s > -math.inf and last_s - first_s < SHORTEST_SPAN_S):
            return None
        return (last_j - first_j) / (last_s - first_s) * 3600.0

    def _answered(self, now_s: float, since_s: float) -> list[tuple[float, float, float]]:
        earliest_s = max(since_s, now_s - WINDOW_S)
        return [answer for answer in self._answers if answer[0] >= earliest_s]
