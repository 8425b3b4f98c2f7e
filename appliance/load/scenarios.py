"""The four scenarios of MLPerf Inference, and how many queries each needs to be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

CONFIDENCE = 0.99
"""How sure MLPerf's early stopping wants to be that the true percentile is no worse."""

SAMPLES_PER_QUERY = 8
"""How many samples arrive at once in the multi-stream scenario."""

OFFLINE_SAMPLES = 24_576
"""What MLPerf asks of an offline run."""


class Scenario(str, Enum):
    """How requests arrive."""

    SINGLE_STREAM = "single-stream"
    """One after the other's answer; its figure is the 90th percentile of latency."""
    MULTI_STREAM = "multi-stream"
    """Eight at once after the last eight's answers; the 99th percentile of the whole query."""
    SERVER = "server"
    """As a Poisson process; the highest rate whose 99th percentile keeps the bound."""
    OFFLINE = "offline"
    """All at once; samples a second."""

    @property
    def percentile(self) -> float:
        """The percentile of latency that MLPerf looks at, as a fraction."""
        return 0.9 if self is Scenario.SINGLE_STREAM else 0.99

    @property
    def samples_per_query(self) -> int:
        return SAMPLES_PER_QUERY if self is Scenario.MULTI_STREAM else 1

    @property
    def least_queries(self) -> int:
        """The queries below which MLPerf believes no result of this scenario."""
        if self is Scenario.OFFLINE:
            return OFFLINE_SAMPLES
        return smallest_count(self.percentile, slower=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run of LoadGen."""

    scenario: Scenario
    seconds: float
    """How long requests are issued, at least."""
    queries: int
    """How many are issued, at least; offline, samples."""
    bound_s: float
    """The latency that the server scenario's percentile must keep."""
    rate_hz: float
    """Queries a second: what the server scenario issues, and what the others expect."""
    name: str
    """Its folder among the logs."""


def smallest_count(percentile: float, *, slower: int, confidence: float = CONFIDENCE) -> int:
    """The fewest queries of which so many may be slower than a percentile that is believed.

    With fewer, a system whose true share of slow queries is just too high would pass more often
    than `1 - confidence`. LoadGen's early stopping (early_stopping.cc of mlcommons/inference)
    with a tolerance of 0, by the exact binomial distribution.
    """
    low, high = slower + 1, slower + 2
    while _passes_by_luck(high, slower, percentile) >= 1.0 - confidence:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if _passes_by_luck(middle, slower, percentile) < 1.0 - confidence:
            high = middle
        else:
            low = middle + 1
    return low


def _passes_by_luck(queries: int, slower: int, percentile: float) -> float:
    """The probability of at most so many slow ones among the queries."""
    slow = 1.0 - percentile
    return sum(
        math.comb(queries, count) * slow**count * percentile ** (queries - count)
        for count in range(slower + 1)
    )
