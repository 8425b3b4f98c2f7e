"""How long an engine's stages take here and now: a high quantile that follows what is measured."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from appliance.engine import Engine

WINDOW = 64
QUANTILE = 0.95
MARGIN = 1.1
"""What is added for the way between the stages: the decision, and the thread that was not woken."""


class StageTimes:
    """The estimated time of each stage in seconds, read from `estimates_s`.

    It starts from the profile's p95 for a batch of one, then follows the 95th percentile of the
    last 64 measured times, so that one slow run passes by and a slower clock is noticed.
    """

    def __init__(self, engine: Engine) -> None:
        self._recent = [deque[float]() for _ in engine.stages]
        self._sorted: list[list[float]] = [[] for _ in engine.stages]
        self.estimates_s = [
            stage.latency[1].p95_s * MARGIN if 1 in stage.latency else 0.0
            for stage in engine.stages
        ]

    def observe(self, stage: int, duration_s: float) -> None:
        """Takes in what one run of a stage took."""
        recent, ordered = self._recent[stage], self._sorted[stage]
        if len(recent) == WINDOW:
            del ordered[bisect_left(ordered, recent.popleft())]
        recent.append(duration_s)
        insort(ordered, duration_s)
        self.estimates_s[stage] = ordered[int(QUANTILE * len(ordered))] * MARGIN
