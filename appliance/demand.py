"""How many requests are still to come, by those that came."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import pvariance

BUCKETS = 128
"""Into how many parts the time that is looked back on is cut."""

SHORTEST_LOOK = 2 / BUCKETS
"""The part of it that is looked back on at least: less holds too few requests to tell by."""

FEWEST_OBSERVED = 0.01
"""From which part of it on the rate of arrival is known well enough to keep energy for it."""

FEWEST_SECONDS = 1.0
"""A rate of arrival is taken over no less than this."""

MORE_THAN_LATELY = 1.4
DEVIATIONS = 3.0
"""By how much more may come than came: by two fifths, or so many standard deviations."""

POOLED = 4
"""How many buckets are counted together for the deviation: bursts are longer than one."""


@dataclass(kw_only=True, slots=True)
class Demand:
    """Counts one tenant's requests over the last `span_s` seconds. Pure: it is told the time."""

    span_s: float
    since_s: float
    """When counting began."""
    _count: int = 0
    _buckets: deque[tuple[float, int]] = field(default_factory=deque)
    """When each began, and how many had come before it."""
    _dispersion: float = 1.0
    """The variance of a count in its mean: 1 where requests come independently, more in bursts."""
    _peak_hz: float = math.inf
    """The highest rate that was seen over a bucket."""

    def arrived(self, now_s: float) -> None:
        """Counts a request."""
        if not self._buckets or now_s - self._buckets[-1][0] >= self.span_s / BUCKETS:
            self._buckets.append((now_s, self._count))
            while now_s - self._buckets[0][0] > self.span_s:
                self._buckets.popleft()
            self._dispersion = self._observed_dispersion(now_s)
            self._peak_hz = self._observed_peak_hz()
        self._count += 1

    def expected(self, ahead_s: float, now_s: float) -> float:
        """How many requests will come in the next seconds, at the mean rate of all that is seen."""
        observed_s = self._observed_s(now_s)
        return self._came_in(observed_s, now_s) * ahead_s / max(FEWEST_SECONDS, observed_s)

    def most(self, ahead_s: float, now_s: float) -> float:
        """How many may come, hardly to be exceeded; none where too little was seen to tell.

        As many as came in as long a time before, or at the mean rate, whichever is more: so it
        follows a burst, and does not forget in a pause that others will come.
        """
        observed_s = self._observed_s(now_s)
        if observed_s < FEWEST_OBSERVED * self.span_s:
            return 0.0
        look_s = min(observed_s, max(ahead_s, SHORTEST_LOOK * self.span_s))
        rates_hz = (self._came_in(back_s, now_s) / back_s for back_s in (look_s, observed_s))
        as_lately = max(rates_hz) * ahead_s
        surplus = DEVIATIONS * math.sqrt(self._dispersion * as_lately)
        most = as_lately + max(surplus, (MORE_THAN_LATELY - 1.0) * as_lately)
        return min(most, self._peak_hz * ahead_s)

    def _observed_s(self, now_s: float) -> float:
        return min(self.span_s, now_s - self.since_s)

    def _came_in(self, back_s: float, now_s: float) -> int:
        first = bisect_left(self._buckets, now_s - back_s, key=lambda bucket: bucket[0])
        return 0 if first == len(self._buckets) else self._count - self._buckets[first][1]

    def _observed_dispersion(self, now_s: float) -> float:
        width_s = POOLED * self.span_s / BUCKETS
        edges_s = [now_s - k * width_s for k in range(int(self._observed_s(now_s) / width_s) + 1)]
        if len(edges_s) < 3:
            return 1.0
        came = [self._came_in(now_s - edge_s, now_s) for edge_s in edges_s]
        counts = [more - fewer for fewer, more in pairwise(came)]
        mean = sum(counts) / len(counts)
        return max(1.0, pvariance(counts) / mean) if mean > 0.0 else 1.0

    def _observed_peak_hz(self) -> float:
        rates_hz = (
            (count - before) / (end_s - start_s)
            for (start_s, before), (end_s, count) in pairwise(self._buckets)
        )
        return max(rates_hz, default=math.inf)
