"""Demand: what is still to come, by what came."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.demand import BUCKETS, Demand

HOUR_S = 3600.0


def steady(demand: Demand, *, every_s: float, until_s: float, from_s: float = 0.0) -> None:
    for number in range(int((until_s - from_s) / every_s)):
        demand.arrived(from_s + number * every_s)


def test_a_steady_sensor_is_expected_to_go_on() -> None:
    demand = Demand(span_s=HOUR_S, since_s=0.0)
    steady(demand, every_s=2.0, until_s=1800.0)

    assert demand.expected(600.0, 1800.0) == pytest.approx(300.0, rel=0.01)


def test_more_may_come_than_is_expected_but_not_more_than_ever_came_at_once() -> None:
    demand = Demand(span_s=HOUR_S, since_s=0.0)
    steady(demand, every_s=2.0, until_s=1800.0)

    most = demand.most(600.0, 1800.0)

    assert 300.0 <= most <= 330.0


def test_nothing_is_foretold_from_the_first_moment() -> None:
    demand = Demand(span_s=HOUR_S, since_s=0.0)
    for number in range(100):
        demand.arrived(number * 0.01)

    assert demand.most(HOUR_S, 1.0) == 0.0


def test_a_pause_does_not_make_it_forget_that_others_came() -> None:
    demand = Demand(span_s=HOUR_S, since_s=0.0)
    steady(demand, every_s=1.0, until_s=600.0)

    assert demand.most(300.0, 1200.0) >= 150.0


def test_a_burst_is_followed_at_once() -> None:
    demand = Demand(span_s=HOUR_S, since_s=0.0)
    steady(demand, every_s=60.0, until_s=3000.0)
    steady(demand, every_s=1.0, from_s=3000.0, until_s=3300.0)

    assert demand.most(300.0, 3300.0) >= 300.0


def test_what_came_longer_ago_than_it_looks_back_is_forgotten() -> None:
    demand = Demand(span_s=100.0, since_s=0.0)
    steady(demand, every_s=0.1, until_s=100.0)
    demand.arrived(1000.0)

    assert demand.expected(100.0, 1000.0) == pytest.approx(1.0)


def test_nothing_comes_of_nothing() -> None:
    assert Demand(span_s=100.0, since_s=0.0).most(50.0, 50.0) == 0.0


@settings(max_examples=50, deadline=None)
@given(st.floats(50.0, 5000.0), st.floats(1.0, 1e5), st.integers(0, 2**32))
def test_requests_that_come_independently_are_seldom_more_than_foretold(
    requests: float, span_s: float, seed: int
) -> None:
    chance, rate_hz = random.Random(seed), requests / span_s
    demand, now_s, came = Demand(span_s=span_s, since_s=0.0), 0.0, 0
    while (now_s := now_s + chance.expovariate(rate_hz)) < span_s:
        demand.arrived(now_s)
    foretold = demand.most(span_s / 4, span_s)
    while (now_s := now_s + chance.expovariate(rate_hz)) < 1.25 * span_s:
        came += 1

    # The rate itself is known from so many requests only.
    assert came <= foretold + 5.0 * max(came, 1) ** 0.5
    assert foretold <= 3.0 * rate_hz * span_s / 4 + 3.0 * BUCKETS
