"""Tests that notice when what arrives is no longer as it was."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from random import Random

STAKE = 0.8
"""What is put on each bet. More would notice strong changes sooner and slight ones later; this
much passes by what a reference of a few hundred values is wrong by."""

FEWEST, MOST = 200, 1000
"""How many values there must be to compare with, and how many are kept."""


@dataclass(kw_only=True)
class DistributionDrift:
    """Notices that a number's distribution has changed, without knowing what is right.

    Each value's rank among the first ones is as likely to be low as high while nothing changes.
    Four bets are laid against that: on lower and on higher ranks, on the ends and on the middle. A
    bet's wealth, never below one, is a CUSUM statistic (Page 1954, Continuous inspection schemes)
    in the form that needs no distribution to be known (Vovk et al. 2021, Retrain or not retrain:
    conformal test martingales for change-point detection). `false_alarm_every` says how many
    values lie between two false alarms on average, at least, where values come independently of
    each other and the reference is as the stream.
    """

    false_alarm_every: float
    random: Random
    """Breaks ties among equal values."""
    _reference: list[float] = field(default_factory=list)
    _wealths: list[float] = field(default_factory=lambda: [0.0] * 4)

    def saw(self, value: float) -> bool:
        """Takes in a value; whether the distribution is now held to have changed."""
        if len(self._reference) >= FEWEST:
            self._bet(self._rank(value))
        if len(self._reference) < MOST:
            insort(self._reference, value)
        return self.suspicion >= 1.0

    @property
    def suspicion(self) -> float:
        """How far the strongest evidence is on its way to an alarm, 0 to 1, by its logarithm."""
        return max(self._wealths) / math.log(len(self._wealths) * self.false_alarm_every)

    def _rank(self, value: float) -> float:
        """The fraction of the reference below a value, 0 to 1; somewhere among equal ones."""
        below = bisect_left(self._reference, value)
        equal = bisect_right(self._reference, value) - below
        return (below + self.random.random() * (equal + 1)) / (len(self._reference) + 1)

    def _bet(self, rank: float) -> None:
        higher = 2.0 * rank - 1.0
        outer = 2.0 * abs(higher) - 1.0
        for number, favour in enumerate((higher, -higher, outer, -outer)):
            self._wealths[number] = max(0.0, self._wealths[number] + math.log1p(STAKE * favour))


@dataclass(kw_only=True)
class RateDrift:
    """Notices that failures have become more frequent than is tolerated.

    A CUSUM of sequential probability ratios (Wald 1945, Page 1954): the rate tolerated against
    `times` as much. `false_alarm_every` says how many trials lie between two false alarms on
    average, at least, while the rate is the one tolerated (Lorden 1971).
    """

    tolerated: float
    false_alarm_every: float
    times: float = 4.0
    _evidence: float = 0.0

    def saw(self, *, failed: bool) -> bool:
        """Takes in a trial; whether the rate is now held to have risen."""
        feared = min(self.times * self.tolerated, (1.0 + self.tolerated) / 2.0)
        ratio = feared / self.tolerated if failed else (1.0 - feared) / (1.0 - self.tolerated)
        self._evidence = max(0.0, self._evidence + math.log(ratio))
        return self.suspicion >= 1.0

    @property
    def suspicion(self) -> float:
        """How far the evidence is on its way to an alarm, 0 to 1."""
        return self._evidence / math.log(self.false_alarm_every)
