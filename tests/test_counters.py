"""Counts since the start: whose they are, and that they never fall."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.energy import IDLE, Spent
from appliance.metrics.counters import NO_ENGINE, OTHER, Counters, Tally
from appliance.plan import Plan
from appliance.rejection_quota import Muted
from tests.factories import a_plan
from tests.test_telemetry import REJECTION, RESULT


class Policies:
    """Policies in force, as a snapshot that is replaced whole."""

    def __init__(self, *tenants: str) -> None:
        self.now: Mapping[str, Plan] = {}
        self.put(*tenants)

    def put(self, *tenants: str) -> None:
        plan = a_plan()
        self.now = MappingProxyType(dict.fromkeys(tenants, plan))


def counters_of(policies: Policies, *, limit: int = 10) -> Counters:
    return Counters(plans=lambda: policies.now, limit=limit)


def answered(tally: Tally) -> int:
    return sum(tally.response_times)


def test_a_reply_is_counted_by_what_it_says() -> None:
    counters = counters_of(Policies("gate"))
    late = dataclasses.replace(RESULT, response_time_ms=12_000.0, unmet=("response_time",), exit=2)

    for reply in (RESULT, late, REJECTION):
        counters.take_in(reply)
    gate = counters.copy({})["gate"]

    assert gate.requests == {("tiny", "ok"): 2, ("resnet50", "rejected"): 1}
    assert (gate.exits, gate.rejections) == ({1: 1, 2: 1}, {429: 1})
    assert gate.unmet == {"response_time": 1}
    assert gate.response_times == [0, 0, 0, 1, *[0] * 9, 1]
    assert gate.response_times_s == 12.010


def test_whoever_has_no_policy_is_counted_with_all_others() -> None:
    counters = counters_of(Policies("gate"))

    for number in range(1000):
        counters.take_in(dataclasses.replace(REJECTION, tenant=f"stranger-{number}"))
    tallies = counters.copy({})

    assert list(tallies) == ["gate", OTHER]
    assert tallies[OTHER].requests == {(NO_ENGINE, "rejected"): 1000}


def test_the_count_of_a_tenant_goes_with_its_policy() -> None:
    policies = Policies("gate", "door")
    counters = counters_of(policies)
    counters.take_in(RESULT)

    policies.put("door")
    gone = counters.copy({})
    policies.put("door", "gate")
    back = counters.copy({})

    assert list(gone) == ["door", OTHER]
    assert answered(back["gate"]) == 0


def test_beyond_the_limit_tenants_are_summed_and_none_gives_way_to_a_newer_one() -> None:
    policies = Policies("b", "c")
    counters = counters_of(policies, limit=2)
    counters.copy({})

    policies.put("a", "b", "c", "d")
    for tenant in "abcd":
        counters.take_in(dataclasses.replace(RESULT, tenant=tenant))
    tallies = counters.copy({})

    assert list(tallies) == ["b", "c", OTHER]
    assert answered(tallies[OTHER]) == 2


def test_joules_are_counted_from_where_they_were_before() -> None:
    counters = counters_of(Policies("gate"))

    counters.copy({"gate": Spent(measured_j=1.0), "gone": Spent(modelled_j=2.0)})
    tallies = counters.copy(
        {"gate": Spent(measured_j=3.0), "gone": Spent(modelled_j=2.5), IDLE: Spent(measured_j=9.0)}
    )

    assert tallies["gate"].spent == Spent(measured_j=3.0)
    assert tallies[OTHER].spent == Spent(modelled_j=2.5)


TENANTS = "abcde"
STEPS = st.lists(
    st.one_of(
        st.sampled_from(TENANTS),
        st.lists(st.sampled_from(TENANTS), unique=True),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps=STEPS, limit=st.integers(0, 3))
def test_no_count_falls_but_with_a_policy_and_there_are_never_more_than_the_limit(
    steps: list[str | list[str]], limit: int
) -> None:
    policies = Policies()
    counters = counters_of(policies, limit=limit)
    spent = {tenant: Spent() for tenant in TENANTS}
    before = counters.copy(spent)

    for step in steps:
        if isinstance(step, str):
            counters.take_in(dataclasses.replace(RESULT, tenant=step))
            spent[step] = Spent(measured_j=spent[step].measured_j + 1.0)
        else:
            policies.put(*step)
        now = counters.copy(spent)

        assert len(now) <= limit + 1
        assert now.keys() - {OTHER} <= policies.now.keys()
        for tenant in before.keys() & now.keys():
            assert answered(now[tenant]) >= answered(before[tenant])
            assert now[tenant].spent.measured_j >= before[tenant].spent.measured_j
        before = now


def test_rejections_that_were_not_sent_are_counted_beside_the_row_that_tells_of_them() -> None:
    counters = counters_of(Policies("gate"))

    counters.take_in_muted(Muted(tenant="gate", code=429, count=41))
    counters.take_in_muted(Muted(tenant=None, code=404, count=5))
    counters.take_in(dataclasses.replace(REJECTION, code=429))
    tallies = counters.copy({})

    assert (tallies["gate"].muted, tallies["gate"].rejections) == (41, {429: 41})
    assert (tallies[OTHER].muted, tallies[OTHER].rejections) == (5, {404: 4})
