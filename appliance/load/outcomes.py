"""What became of a load's samples, and the figures that it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one sample."""

    tenant: str
    latency_s: float
    """From the time it was scheduled for until its reply was here, or was given up."""
    exit: int | None = None
    """Where it was answered; None where it was not."""
    right: bool | None = None
    """Whether the answer is the frame's label; None where there is no answer or no label."""
    energy_j: float | None = None
    code: int | None = None
    """Why it was rejected; None where it was not."""

    @property
    def answered(self) -> bool:
        return self.exit is not None

    def keeps(self, bound_s: float) -> bool:
        """Whether it was answered in time."""
        return self.answered and self.latency_s <= bound_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """A tenant's samples in one run, or all of them, in numbers."""

    samples: int
    answered: int
    unanswered: int
    """For how many no reply came in time."""
    rejected: Mapping[int, int]
    """How many were rejected, by code."""
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    """Percentiles of the answers' latency."""
    kept: float
    """The share that was answered within the bound."""
    goodput_hz: float
    """Answers within the bound a second."""
    accuracy: float | None
    """The share of the answers to labelled frames that are right."""
    energy_j: float | None
    """Per answer."""
    exits: Mapping[int, int]


def figures_of(
    outcomes: Sequence[Outcome], *, bounds_s: Mapping[str, float], duration_s: float
) -> Figures:
    """The figures of a run that took so long, each outcome against its tenant's bound."""
    answers = [outcome for outcome in outcomes if outcome.answered]
    codes = Counter(outcome.code for outcome in outcomes if outcome.code is not None)
    kept = sum(outcome.keeps(bounds_s[outcome.tenant]) for outcome in outcomes)
    p50_s, p90_s, p99_s = _percentiles([answer.latency_s for answer in answers])
    return Figures(
        samples=len(outcomes),
        answered=len(answers),
        unanswered=len(outcomes) - len(answers) - codes.total(),
        rejected=dict(sorted(codes.items())),
        p50_s=p50_s,
        p90_s=p90_s,
        p99_s=p99_s,
        kept=kept / len(outcomes) if outcomes else 0.0,
        goodput_hz=kept / duration_s if duration_s > 0.0 else 0.0,
        accuracy=_mean(float(a.right) for a in answers if a.right is not None),
        energy_j=_mean(a.energy_j for a in answers if a.energy_j is not None),
        exits=dict(sorted(Counter(a.exit for a in answers if a.exit is not None).items())),
    )


def figures_by_tenant(
    outcomes: Sequence[Outcome], *, bounds_s: Mapping[str, float], duration_s: float
) -> dict[str, Figures]:
    """The same, for each tenant that has a bound."""
    return {
        tenant: figures_of(
            [outcome for outcome in outcomes if outcome.tenant == tenant],
            bounds_s=bounds_s,
            duration_s=duration_s,
        )
        for tenant in bounds_s
    }


def _percentiles(latencies_s: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not latencies_s:
        return None, None, None
    # The value that the next rank has, as LoadGen takes it, and none between two that were seen.
    p50_s, p90_s, p99_s = np.percentile(latencies_s, (50, 90, 99), method="higher")
    return float(p50_s), float(p90_s), float(p99_s)


def _mean(values: Iterable[float]) -> float | None:
    seen = list(values)
    return sum(seen) / len(seen) if seen else None
