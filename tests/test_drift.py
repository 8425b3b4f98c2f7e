"""Drift is noticed soon, and seldom where there is none."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.drift import DistributionDrift, RateDrift


def first_alarm(drift: DistributionDrift, values: NDArray[np.float64]) -> int | None:
    return next((n for n, value in enumerate(values.tolist()) if drift.saw(value)), None)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("lower", 0.0, 0.6),
        ("higher", 0.4, 1.0),
        ("narrower", 0.35, 0.65),
    ],
)
def test_another_distribution_is_noticed_within_some_hundred_values(
    name: str, low: float, high: float
) -> None:
    rng = np.random.default_rng(1)
    drift = DistributionDrift(false_alarm_every=100_000.0, random=Random(0))
    before = first_alarm(drift, rng.uniform(size=2000))

    after = first_alarm(drift, rng.uniform(low, high, size=1000))

    assert before is None
    assert after is not None, name
    assert after < 200


def test_values_at_both_ends_are_noticed() -> None:
    rng = np.random.default_rng(2)
    drift = DistributionDrift(false_alarm_every=100_000.0, random=Random(0))
    first_alarm(drift, rng.uniform(size=2000))

    after = first_alarm(drift, rng.choice([0.01, 0.99], size=1000))

    assert after is not None
    assert after < 200


def test_an_unchanged_distribution_raises_few_alarms() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(20):
        drift = DistributionDrift(false_alarm_every=100_000.0, random=Random(0))
        alarms += first_alarm(drift, rng.beta(5.0, 1.0, size=10_000)) is not None

    assert alarms <= 4  # two are to be expected of 200,000 values


def test_equal_values_are_no_drift() -> None:
    drift = DistributionDrift(false_alarm_every=100_000.0, random=Random(0))

    assert first_alarm(drift, np.ones(5000)) is None


def test_before_there_is_a_reference_nothing_is_suspected() -> None:
    drift = DistributionDrift(false_alarm_every=2.0, random=Random(0))

    assert first_alarm(drift, np.array([0.1, 0.9] * 100)) is None
    assert drift.suspicion == 0.0


def test_more_frequent_failures_are_noticed() -> None:
    rng = np.random.default_rng(4)
    drift = RateDrift(tolerated=0.01, false_alarm_every=1000.0)

    before = [drift.saw(failed=bool(failed)) for failed in rng.random(3000) < 0.004]
    after = [drift.saw(failed=bool(failed)) for failed in rng.random(500) < 0.06]

    assert not any(before)
    assert any(after)
    assert after.index(True) < 250


@pytest.mark.parametrize("tolerated", [0.001, 0.3, 0.9, 0.99])
def test_failures_all_over_are_noticed_whatever_is_tolerated(tolerated: float) -> None:
    drift = RateDrift(tolerated=tolerated, false_alarm_every=100.0)

    assert any(drift.saw(failed=True) for _ in range(5000))


def test_suspicion_grows_with_failures_and_goes_without_them() -> None:
    drift = RateDrift(tolerated=0.01, false_alarm_every=1000.0)
    drift.saw(failed=True)
    suspicion = drift.suspicion
    for _ in range(100):
        drift.saw(failed=False)

    assert 0.0 < suspicion < 1.0
    assert drift.suspicion == 0.0
