"""Who may send how fast: a policy's limits, the ceiling for all, strangers together."""

from __future__ import annotations

import re

import pytest

from appliance.admission import Admission, Ceiling
from appliance.errors import Code, Rejected
from appliance.plan import Plan
from tests.factories import a_plan

NO_PLANS: dict[str, Plan] = {}


def admitted(
    admission: Admission, plans: dict[str, Plan], now_s: float, *, count: int, size_bytes: int = 1
) -> int:
    """How many of so many requests at once are let in."""
    let_in = 0
    for _ in range(count):
        try:
            admission.admit("gate", size_bytes, plans, now_s)
        except Rejected:
            continue
        let_in += 1
    return let_in


def test_a_burst_comes_in_and_then_the_rate_holds() -> None:
    admission, plans = Admission(Ceiling()), {"gate": a_plan("limits: {rate: 20/s, burst: 2s}")}

    at_once = admitted(admission, plans, 0.0, count=100)
    a_second_later = admitted(admission, plans, 1.0, count=100)

    assert (at_once, a_second_later) == (40, 20)


def test_bytes_are_limited_beside_requests() -> None:
    admission, plans = Admission(Ceiling()), {"gate": a_plan("limits: {rate: 20/s, bytes: 5kB/s}")}

    assert admitted(admission, plans, 0.0, count=100, size_bytes=1000) == 5


def test_the_rejection_says_when_to_try_again_and_then_it_is_let_in() -> None:
    admission, plans = Admission(Ceiling()), {"gate": a_plan("limits: {rate: 4/s, burst: 250ms}")}
    admission.admit("gate", 1, plans, 0.0)

    with pytest.raises(Rejected, match=r"4 /s of requests: retry in \d+ ms") as rejected:
        admission.admit("gate", 1, plans, 0.1)
    retry = re.search(r"retry in (\d+) ms", rejected.value.detail)

    assert rejected.value.code is Code.TOO_MANY
    assert retry is not None
    assert int(retry[1]) == 150
    admission.admit("gate", 1, plans, 0.1 + int(retry[1]) / 1e3)


def test_a_flood_that_is_turned_away_takes_nothing_from_later_requests() -> None:
    admission, plans = Admission(Ceiling()), {"gate": a_plan("limits: {rate: 1/s}")}

    admitted(admission, plans, 0.0, count=1000)

    assert admitted(admission, plans, 1.0, count=1000) == 1


def test_the_ceiling_holds_where_a_policy_asks_for_more() -> None:
    admission = Admission(Ceiling(rate_per_s=3.0))

    generous = admitted(admission, {"gate": a_plan("limits: {rate: 1000/s}")}, 0.0, count=10)
    silent = admitted(admission, {"gate": a_plan("limits: {burst: 2s}")}, 0.0, count=10)

    assert (generous, silent) == (3, 6)


def test_tenants_without_a_policy_share_one_account() -> None:
    admission = Admission(Ceiling(rate_per_s=5.0))
    let_in = 0

    for number in range(10_000):
        try:
            admission.admit(f"stranger-{number}", 1, NO_PLANS, 0.0)
        except Rejected:
            continue
        let_in += 1

    assert let_in == 5
    assert len(admission) == 1


def test_the_account_of_a_removed_tenant_is_forgotten() -> None:
    admission, plans = Admission(Ceiling()), {"gate": a_plan("limits: {rate: 1/s}")}
    admission.admit("gate", 1, plans, 0.0)

    admission.admit("other", 1, NO_PLANS, 0.0)
    admission.admit("third", 1, NO_PLANS, 0.0)

    assert len(admission) == 1


def test_without_limits_everything_comes_in() -> None:
    plans = {"gate": a_plan()}

    assert admitted(Admission(Ceiling()), plans, 0.0, count=5000, size_bytes=10**7) == 5000
