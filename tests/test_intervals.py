"""Bounds on a rate: right at every moment at once, and no wider than that needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.intervals import lower_bound, refutes, upper_bound


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    trials = draw(st.integers(0, 5000))
    return draw(st.integers(0, trials)), trials


@given(counts(), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_bounds_stand_around_what_was_seen(seen: tuple[int, int], error: float) -> None:
    failures, trials = seen
    rate = failures / trials if trials else 0.5

    assert 0.0 <= lower_bound(failures, trials, error=error) <= rate + 1e-9
    assert rate - 1e-9 <= upper_bound(failures, trials, error=error) <= 1.0


@given(counts(), st.floats(1e-4, 0.999))
def test_a_rate_is_refuted_where_the_upper_bound_lies_below_it(
    seen: tuple[int, int], rate: float
) -> None:
    failures, trials = seen
    bound = upper_bound(failures, trials, error=0.05)

    if rate > bound + 1e-6:
        assert refutes(failures, trials, rate=rate, error=0.05)
    if rate < bound - 1e-6:
        assert not refutes(failures, trials, rate=rate, error=0.05)


@pytest.mark.parametrize("rate", [0.003, 0.01, 0.05, 0.3])
def test_bounds_asked_after_every_trial_are_wrong_as_seldom_as_they_say(rate: float) -> None:
    rng = np.random.default_rng(5)
    streams, trials, error = 300, 1500, 0.1
    too_low = too_high = 0
    for _ in range(streams):
        failures = np.cumsum(rng.random(trials) < rate)
        moments = range(0, trials, 5)
        too_low += any(refutes(int(failures[n]), n + 1, rate=rate, error=error) for n in moments)
        too_high += any(
            lower_bound(int(failures[n]), n + 1, error=error) > rate for n in range(0, trials, 100)
        )

    # 300 streams tell a tenth to within 5 percentage points.
    assert too_low / streams <= error + 0.05
    assert too_high / streams <= error + 0.05


def test_without_a_failure_a_few_hundred_trials_bound_a_rate_to_a_hundredth() -> None:
    # The rule of three says 300 for one moment; to hold at all of them costs a fifth more.
    assert not refutes(0, 300, rate=0.01, error=0.05)
    assert refutes(0, 370, rate=0.01, error=0.05)


def test_a_rate_of_zero_cannot_be_refuted_and_one_of_one_needs_no_trial() -> None:
    assert not refutes(0, 100_000, rate=0.0, error=0.05)
    assert refutes(0, 0, rate=1.0, error=0.05)
