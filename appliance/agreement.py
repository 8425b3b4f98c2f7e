"""Keeps one tenant's answers in agreement with the last exit, on the live stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.drift import DistributionDrift, RateDrift
from appliance.intervals import lower_bound, refutes, upper_bound

ERROR = 0.05
"""With what probability a bound on the disagreement may be wrong."""

FEWEST_SAMPLES, MOST_SAMPLES = 1000, 2000
"""How many samples caution takes at least, and how many are remembered. Thresholds found on fewer
would be strict, and stay so for long, since afterwards samples are few."""

LEAST_RUN_ON, MOST_RUN_ON = 0.01, 0.05
"""Which part of the requests is run on to the last exit for the samples' sake alone: the most while
fewer are remembered than can be, or something looks wrong."""

SUSPICIOUS = 0.3
"""Of the evidence that a drift's alarm takes: from here on the most is run on."""

FALSE_ALARM_REQUESTS = 100_000.0
"""Requests between two false alarms by the confidences of the first exit."""

FALSE_ALARM_SAMPLES = 1000.0
"""Samples between two false alarms by their disagreement, were that as high as is tolerated."""

TRUST = 4.0
"""How many times more doubt the deepest early exit may have than the first: bad frames make the
first exits sure of what is wrong, while those behind them still know better."""

DOUBTS = np.geomspace(1e-4, 0.5, 34)
"""How much doubt, 1 - expected accuracy, a request may leave with; the geometric mean along the
exits, in the order of testing."""

_RECENT = 32.0


class ExitAnswer(NamedTuple):
    """What one exit answered to a request: the class, and the calibrated confidence in it."""

    class_index: int
    expected_accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementEstimate:
    """How often answers agree with the last exit under the thresholds of the moment.

    `low` and `high` each hold with 95 %; while nothing may leave early they are 1. `thresholds`
    has one per exit but the last, on the expected accuracy, and is None while nothing may leave.
    """

    agreement: float
    low: float
    high: float
    samples: int
    thresholds: tuple[float, ...] | None
    chosen: float
    """The part of the requests that is chosen as samples."""
    alarms: int
    """How often a drift was noticed."""

    @property
    def cautious(self) -> bool:
        return self.thresholds is None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2.0


@dataclass(kw_only=True, slots=True)
class _Stretch:
    """What was learnt since the last drift."""

    failures: NDArray[np.int64]
    """How many samples' answers would have disagreed, by candidate."""
    confidences: DistributionDrift
    disagreements: RateDrift
    samples: deque[NDArray[np.bool_]] = field(default_factory=deque)
    """Of each sample, whether each candidate's answer would have disagreed."""
    held: int | None = None
    """The candidate in force."""
    loosest: int | None = None
    """The loosest that ever was: after a drift that others have given way to, it shows it best."""
    run_on: float = 0.0
    """The part of the last samples that were run on after their answer."""


class Agreement:
    """Says which requests may leave early, so that answers agree with the last exit often enough.

    Requests chosen before anything is known of them run through all exits: on these samples every
    threshold can be tried. Thresholds are tested from the strictest on, and those before the first
    that fails hold, which needs no correction for their number (fixed-sequence testing, as in
    Angelopoulos et al. 2021, Learn then test). The test is a bound on the disagreement that may be
    asked after every sample (`intervals`). While none holds, nothing leaves early: it is cautious.

    A drift is noticed from the confidences of the first exit, at once and without knowing what is
    right, and from the samples' disagreement (`drift`). Then all that was learnt is forgotten, and
    caution is back. What is slower than that, the limit on samples forgets: beyond it, the bound is
    that of the samples remembered alone. Requests are taken to be independent of each other.

    `target` is the agreement that is asked for, over 0, `exits` how many the engine has. Pure: no
    clock, and what is chosen is drawn from `seed`.
    """

    def __init__(self, *, target: float, exits: int, seed: int) -> None:
        self._tolerated = 1.0 - target
        self._candidates = _candidates(exits - 1)
        self._random = Random(seed)
        self._alarms = 0
        self._stretch = self._fresh()

    @property
    def cautious(self) -> bool:
        """Whether nothing may leave early."""
        return self._stretch.held is None

    @property
    def alarms(self) -> int:
        """How often a drift was noticed."""
        return self._alarms

    @property
    def chosen(self) -> float:
        """The part of the requests that is chosen as samples.

        A sample that reaches the last exit anyway costs nothing, and so all are chosen while
        nothing leaves early: what is budgeted is those that are run on after their answer.
        """
        stretch = self._stretch
        suspicion = max(stretch.confidences.suspicion, stretch.disagreements.suspicion)
        is_settled = suspicion < SUSPICIOUS and len(stretch.samples) == MOST_SAMPLES
        budget = LEAST_RUN_ON if is_settled else MOST_RUN_ON
        return budget / max(budget, stretch.run_on)

    def chooses(self) -> bool:
        """Whether the next request is a sample; to be asked before anything of it is known."""
        return self._random.random() < self.chosen

    def may_leave(self, exit_: int, expected_accuracy: float) -> bool:
        """Whether a request may answer from this exit, which is not the last."""
        held = self._stretch.held
        return held is not None and bool(expected_accuracy >= self._candidates[held, exit_])

    def saw(self, expected_accuracy: float) -> bool:
        """Takes in what the first exit said to a request, any; whether it raised an alarm."""
        if not self._stretch.confidences.saw(expected_accuracy):
            return False
        self._alarm()
        return True

    def learned(self, trajectory: Sequence[ExitAnswer], *, answered_at: int) -> bool:
        """Takes in what all exits said to a sample; whether it raised an alarm.

        `answered_at` is the exit that the tenant's answer came from. A request that was not chosen
        and yet reached the last exit is no sample: those that left before it would be missing.
        """
        stretch = self._stretch
        stretch.run_on += ((answered_at < len(trajectory) - 1) - stretch.run_on) / _RECENT
        disagrees = self._disagrees(trajectory)
        if stretch.loosest is not None and stretch.disagreements.saw(
            failed=bool(disagrees[stretch.loosest])
        ):
            self._alarm()
            return True
        if len(stretch.samples) == MOST_SAMPLES:
            stretch.failures -= stretch.samples.popleft()
        stretch.samples.append(disagrees)
        stretch.failures += disagrees
        stretch.held = self._lowest_that_holds()
        if stretch.held is not None:
            stretch.loosest = max(stretch.held, stretch.loosest or 0)
        return False

    def estimate(self) -> AgreementEstimate:
        """What can be said of the agreement under the thresholds of this moment."""
        held, samples = self._stretch.held, len(self._stretch.samples)
        agreement, low, high, thresholds = 1.0, 1.0, 1.0, None
        if held is not None:
            failures = int(self._stretch.failures[held])
            agreement = 1.0 - failures / samples
            low = 1.0 - upper_bound(failures, samples, error=ERROR)
            high = 1.0 - lower_bound(failures, samples, error=ERROR)
            thresholds = tuple(self._candidates[held].tolist())
        return AgreementEstimate(
            agreement=agreement,
            low=low,
            high=high,
            samples=samples,
            thresholds=thresholds,
            chosen=self.chosen,
            alarms=self._alarms,
        )

    def _fresh(self) -> _Stretch:
        return _Stretch(
            failures=np.zeros(len(self._candidates), np.int64),
            confidences=DistributionDrift(
                false_alarm_every=FALSE_ALARM_REQUESTS, random=self._random
            ),
            disagreements=RateDrift(
                tolerated=self._tolerated, false_alarm_every=FALSE_ALARM_SAMPLES
            ),
        )

    def _alarm(self) -> None:
        self._alarms += 1
        self._stretch = self._fresh()

    def _disagrees(self, trajectory: Sequence[ExitAnswer]) -> NDArray[np.bool_]:
        leaves = np.ones((len(self._candidates), len(trajectory)), np.bool_)
        confidences = np.array([answer.expected_accuracy for answer in trajectory[:-1]])
        leaves[:, :-1] = confidences >= self._candidates
        disagreeing = np.array(
            [answer.class_index != trajectory[-1].class_index for answer in trajectory]
        )
        found: NDArray[np.bool_] = disagreeing[leaves.argmax(axis=1)]
        return found

    def _lowest_that_holds(self) -> int | None:
        samples, held = len(self._stretch.samples), None
        if self.cautious and samples < FEWEST_SAMPLES:
            return None
        for number, failures in enumerate(self._stretch.failures.tolist()):
            if not refutes(failures, samples, rate=self._tolerated, error=ERROR):
                break
            held = number
        return held


def _candidates(early_exits: int) -> NDArray[np.float64]:
    """The thresholds to try, from the strictest on, shape (doubts, early exits)."""
    places = np.linspace(-0.5, 0.5, early_exits) if early_exits > 1 else np.zeros(early_exits)
    candidates: NDArray[np.float64] = 1.0 - np.minimum(1.0, DOUBTS[:, np.newaxis] * TRUST**places)
    return candidates
