"""Token buckets: the rate holds over any time, and nobody waits longer than is said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.token_bucket import TokenBucket

RATES = st.floats(0.01, 1e7)
CAPACITIES = st.floats(0.01, 1e8)
COMINGS = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 1e7)), max_size=60)


@given(rate_per_s=RATES, capacity=CAPACITIES, comings=COMINGS)
def test_no_time_sees_more_than_its_rate_the_capacity_and_one_amount(
    rate_per_s: float, capacity: float, comings: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate_per_s=rate_per_s, capacity=capacity, now_s=0.0)
    now_s, taken = 0.0, []

    for gap_s, amount in comings:
        now_s += gap_s
        if bucket.wait_s(amount, now_s) == 0.0:
            bucket.take(amount, now_s)
            taken.append((now_s, amount))

    for first, (since_s, _) in enumerate(taken):
        window = taken[first:]
        *earlier, (until_s, last) = window
        allowed = capacity + rate_per_s * (until_s - since_s) + last
        assert sum(amount for _, amount in earlier) + last <= allowed * (1 + 1e-9) + 1e-6


@given(rate_per_s=RATES, capacity=CAPACITIES, comings=COMINGS, amount=st.floats(0.0, 1e7))
def test_who_waits_as_long_as_is_said_is_let_through(
    rate_per_s: float, capacity: float, comings: list[tuple[float, float]], amount: float
) -> None:
    bucket = TokenBucket(rate_per_s=rate_per_s, capacity=capacity, now_s=0.0)
    for gap_s, earlier in comings:
        if bucket.wait_s(earlier, gap_s) == 0.0:
            bucket.take(earlier, gap_s)

    wait_s = bucket.wait_s(amount, 10.0)

    assert bucket.wait_s(amount, (10.0 + wait_s) * (1 + 1e-9) + 1e-3) == pytest.approx(
        0.0, abs=1e-6
    )


def test_an_amount_above_the_capacity_is_let_through_and_made_up_for() -> None:
    bucket = TokenBucket(rate_per_s=10.0, capacity=5.0, now_s=0.0)

    first_s = bucket.wait_s(100.0, 0.0)
    bucket.take(100.0, 0.0)

    assert first_s == 0.0
    assert bucket.wait_s(1.0, 0.0) == pytest.approx(9.6)


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = TokenBucket(rate_per_s=1.0, capacity=1.0, now_s=100.0)
    bucket.take(1.0, 100.0)

    back_s = bucket.wait_s(1.0, 50.0)

    assert back_s == 1.0
    assert bucket.wait_s(1.0, 100.0) == 1.0


def test_without_a_rate_nobody_waits() -> None:
    bucket = TokenBucket(rate_per_s=math.inf, capacity=math.inf, now_s=0.0)

    bucket.take(1e12, 0.0)

    assert bucket.wait_s(1e12, 0.0) == 0.0
