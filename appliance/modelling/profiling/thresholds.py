"""Leaving early: what a threshold per exit comes to, and the thresholds that keep a goal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.engine import Engine, ThresholdRow
from appliance.errors import ModellingError
from appliance.modelling.profiling.answers import Answers
from appliance.modelling.profiling.calibration import log_softmax
from appliance.modelling.profiling.figures import rounded

TABLE = (*(round(0.5 + 0.05 * step, 2) for step in range(10)), 0.99)
"""The thresholds that a profile tries, the same at every exit."""

NEVER = math.inf
CANDIDATES = np.concatenate(([0.0], np.arange(0.30, 0.995, 0.01).round(2), [0.995, NEVER]))
"""What a suggested threshold may be; 0 lets all frames leave, infinity none."""

MULTIPLIERS = np.geomspace(1e-2, 1e3, 41)
"""What a wrong answer may cost in the search, in multiples of the time to the last exit."""

STARTS = 4
"""How many of the solutions found are searched around."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What comes of leaving at the first exit whose threshold is reached.

    `thresholds` has one per exit but the last, where all that are left leave.
    """

    thresholds: tuple[float, ...]
    exit_shares: tuple[float, ...]
    accuracy: float
    latency_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What every exit said to the same frames, and when it would have said so.

    `confidence` (calibrated) and `right` have the shape (exits, frames); `latency_s` has what it
    takes to come to each exit, shape (exits,).
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]
    latency_s: NDArray[np.float64]

    @property
    def frames(self) -> int:
        return int(self.right.shape[1])

    @property
    def final_accuracy(self) -> float:
        return float(self.right[-1].mean())

    def of(self, frames: NDArray[np.int64]) -> Recording:
        """What was said to some of the frames, by their numbers."""
        return replace(self, confidence=self.confidence[:, frames], right=self.right[:, frames])

    def leave(self, thresholds: Sequence[float]) -> Outcome:
        """What comes of these thresholds, one per exit but the last."""
        reached = self.confidence >= np.array([*thresholds, -NEVER])[:, np.newaxis]
        exits = reached.argmax(axis=0)
        shares = np.bincount(exits, minlength=len(self.latency_s)) / self.frames
        return Outcome(
            thresholds=tuple(float(threshold) for threshold in thresholds),
            exit_shares=tuple(shares.tolist()),
            accuracy=float(self.right[exits, np.arange(self.frames)].mean()),
            latency_s=float(shares @ self.latency_s),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A floor on accuracy: `below_final` under the last exit's, or an absolute one."""

    below_final: float | None = None
    floor: float | None = None

    def floor_for(self, recording: Recording) -> float:
        if self.floor is not None:
            return self.floor
        return recording.final_accuracy - (self.below_final or 0.0)


def record(engine: Engine, answers: Answers, batch_size: int) -> Recording:
    """What an engine's exits said, with its temperatures and its latencies for a batch size."""
    logits = zip(answers.logits, engine.stages, strict=True)
    confidence = [
        np.exp(log_softmax(given / stage.temperature)).max(axis=1) for given, stage in logits
    ]
    latencies_s = [stage.latency[batch_size].p50_s for stage in engine.stages]
    return Recording(
        confidence=np.stack(confidence),
        right=np.stack([given.argmax(axis=1) == answers.classes for given in answers.logits]),
        latency_s=np.cumsum(latencies_s),
    )


def parse_goal(text: str) -> Goal:
    """Reads `accuracy >= final - 1%`, `accuracy >= final` or `accuracy >= 97%`.

    Raises ModellingError for anything else.
    """
    found = _GOAL.fullmatch(text.strip())
    if found is not None:
        final, below, floor = found.groups()
        fraction = _fraction(below or floor or "0%")
        if fraction is not None:
            return Goal(below_final=fraction) if final else Goal(floor=fraction)
    raise ModellingError(
        f"{text!r} is no goal: write one such as 'accuracy >= final - 1%' or 'accuracy >= 97%'"
    )


_GOAL = re.compile(r"accuracy\s*>=\s*(?:(final)(?:\s*-\s*([\d.]+\s*%?))?|([\d.]+\s*%?))")


def table(recording: Recording) -> tuple[ThresholdRow, ...]:
    """What each threshold of the table comes to where every exit has the same."""
    early = len(recording.latency_s) - 1
    rows = ((threshold, recording.leave([threshold] * early)) for threshold in TABLE)
    return tuple(
        ThresholdRow(
            threshold=threshold,
            exit_shares=tuple(map(rounded, outcome.exit_shares)),
            accuracy=rounded(outcome.accuracy),
            latency_s=rounded(outcome.latency_s),
        )
        for threshold, outcome in rows
    )


def suggest(recording: Recording, goal: Goal, *, unused: Sequence[int] = ()) -> Outcome:
    """The thresholds with the lowest mean latency among those found that keep the goal.

    Minimises latency plus a multiplier times the errors, one exit's threshold after the other, for
    a row of multipliers (Everett 1963, Generalized Lagrange Multiplier Method). A gap between two
    multipliers may hide a better solution, so the best few are searched around: one threshold at a
    time is moved as long as the goal is kept. At the exits in `unused` nothing leaves. Raises
    ModellingError where not even the last exit keeps the goal.
    """
    floor = goal.floor_for(recording) - 1e-12
    kept = {found for found in _solutions(recording, unused) if found.accuracy >= floor}
    if not kept:
        raise ModellingError(
            f"the last exit is right in {recording.final_accuracy:.1%} of the frames, so an"
            f" accuracy of {floor:.1%} is out of reach: name a lower one"
        )
    starts = sorted(kept, key=_latency_then_errors)[:STARTS]
    return min(
        (_moved(recording, start, floor, unused) for start in starts), key=_latency_then_errors
    )


def _moved(recording: Recording, start: Outcome, floor: float, unused: Sequence[int]) -> Outcome:
    """The best outcome that moves of one threshold at a time come to, keeping the floor."""
    best, before = start, None
    while best is not before:
        before = best
        for exit_ in range(len(start.thresholds)):
            if exit_ in unused:
                continue
            around = (_with(before.thresholds, exit_, moved) for moved in CANDIDATES)
            tried = (recording.leave(thresholds) for thresholds in around)
            kept = (outcome for outcome in tried if outcome.accuracy >= floor)
            best = min((best, *kept), key=_latency_then_errors)
    return best


def _latency_then_errors(outcome: Outcome) -> tuple[float, float]:
    return outcome.latency_s, -outcome.accuracy


def _with(thresholds: Sequence[float], exit_: int, moved: float) -> list[float]:
    return [*thresholds[:exit_], moved, *thresholds[exit_ + 1 :]]


def _solutions(recording: Recording, unused: Sequence[int]) -> Iterator[Outcome]:
    early = len(recording.latency_s) - 1
    yield recording.leave([NEVER] * early)
    for threshold in TABLE:
        same = [NEVER if exit_ in unused else threshold for exit_ in range(early)]
        yield recording.leave(same)
    for start in (0.0, NEVER):
        thresholds = [NEVER if exit_ in unused else start for exit_ in range(early)]
        for multiplier in MULTIPLIERS:
            thresholds = _settled(recording, thresholds, multiplier, unused)
            yield recording.leave(thresholds)


def _settled(
    recording: Recording, thresholds: Sequence[float], multiplier: float, unused: Sequence[int]
) -> list[float]:
    """Thresholds of which none, changed alone, costs less by this multiplier."""
    settled = list(thresholds)
    wrong_s = multiplier * recording.latency_s[-1]
    costs = recording.latency_s[:, np.newaxis] + wrong_s * ~recording.right
    while True:
        before = list(settled)
        for exit_ in reversed(range(len(settled))):
            if exit_ not in unused:
                settled[exit_] = _best_threshold(recording.confidence, costs, settled, exit_)
        if settled == before:
            return settled


def _best_threshold(
    confidence: NDArray[np.float64],
    costs: NDArray[np.float64],
    thresholds: Sequence[float],
    exit_: int,
) -> float:
    """The candidate of the lowest cost for one exit, the others' thresholds being as they are."""
    bounds = np.array([*thresholds, -NEVER])[:, np.newaxis]
    stays = (confidence[:exit_] < bounds[:exit_]).all(axis=0)
    later = exit_ + 1 + (confidence[exit_ + 1 :] >= bounds[exit_ + 1 :]).argmax(axis=0)
    # What it saves that a frame leaves here, summed up from the most confident one on.
    saving = (costs[later, np.arange(len(later))] - costs[exit_])[stays]
    order = np.argsort(-confidence[exit_][stays])
    saved = np.concatenate(([0.0], np.cumsum(saving[order])))
    leaving = np.searchsorted(-confidence[exit_][stays][order], -CANDIDATES, side="right")
    # Of equal ones the highest: it is the least likely to let a wrong answer out.
    best = len(CANDIDATES) - 1 - int(saved[leaving][::-1].argmax())
    return float(CANDIDATES[best])


def _fraction(text: str) -> float | None:
    """`1%` or `0.01` as a fraction; a bare 1 might be meant as either, and is none."""
    number, percent, _ = text.partition("%")
    try:
        value = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        return None
    return value if 0.0 <= value < 1.0 or (value == 1.0 and percent) else None
