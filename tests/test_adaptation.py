"""Modes: the first rule that holds decides, and a mode is not left at once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appliance.activity import Activity
from appliance.adaptation import Adaptation, ModeChange
from appliance.conditions import TenantMetrics
from appliance.errors import Faulty
from appliance.plan import Plan
from tests.factories import a_plan, an_engine

NOTHING = TenantMetrics(*[None] * len(TenantMetrics._fields))

POLICY = """
bounds: {response_time: 40ms, accuracy: 60%}
exit_when: confidence >= 0.9
modes:
  saver: {bounds: {response_time: 100ms}, exit_when: exit >= 0}
  cool: {exit_when: exit >= 1}
adapt:
  - {use: cool, when: temperature > 85C, hold: 60s}
  - {use: saver, when: {any: ["budget_remaining < 10%", "queue_length > 5"]}, hold: 30s}
"""


class Household:
    def __init__(self, policy: str = POLICY) -> None:
        self.plan = a_plan(policy)
        self.adaptation = Adaptation()

    def adapt(self, now_s: float, **known: float) -> list[ModeChange]:
        plans: Mapping[str, Plan] = {"gate": self.plan}
        return self.adaptation.adapt(now_s, plans, lambda _plan: NOTHING._replace(**known))

    @property
    def mode(self) -> str | None:
        return self.adaptation.mode("gate")


def test_without_a_rule_that_holds_the_policy_itself_is_in_force() -> None:
    household = Household()

    assert household.adapt(0.0, budget_remaining=0.5, queue_length=0, temperature=50) == []
    assert household.mode is None


def test_a_low_budget_brings_its_mode() -> None:
    household = Household()

    changes = household.adapt(0.0, budget_remaining=0.09, queue_length=0, temperature=50)

    assert changes == [ModeChange(tenant="gate", before=None, after="saver")]
    assert household.mode == "saver"


def test_the_first_rule_that_holds_decides() -> None:
    household = Household()
    household.adapt(0.0, budget_remaining=0.01, queue_length=9, temperature=90)

    assert household.mode == "cool"


def test_a_mode_is_kept_for_its_hold_and_left_afterwards() -> None:
    household = Household()
    household.adapt(0.0, budget_remaining=0.01, queue_length=0, temperature=50)
    modes = []
    for now_s in (1.0, 29.0, 31.0):
        household.adapt(now_s, budget_remaining=0.9, queue_length=0, temperature=50)
        modes.append(household.mode)

    assert modes == ["saver", "saver", None]


def test_a_threshold_that_is_crossed_to_and_fro_does_not_flicker() -> None:
    household = Household("modes: {saver: {}}\nadapt: [{use: saver, when: power > 5W}]")
    changes = 0
    for step in range(100):
        changes += len(household.adapt(step * 0.5, power=4.0 if step % 2 else 6.0))

    assert changes <= 10


def test_a_rule_on_what_is_not_known_does_not_hold() -> None:
    household = Household()

    assert household.adapt(0.0) == []


def test_a_mode_replaces_what_it_says_and_leaves_the_rest() -> None:
    plan = a_plan(POLICY)

    saver, cool = plan.modes["saver"], plan.modes["cool"]

    assert saver.mode == "saver"
    assert saver.policy.bounds.response_time == 0.1
    assert saver.policy.bounds.accuracy is None
    assert cool.policy.bounds == plan.policy.bounds
    assert cool.policy.exit_when != plan.policy.exit_when


def test_a_mode_that_is_gone_from_the_policy_is_left() -> None:
    household = Household()
    household.adapt(0.0, budget_remaining=0.01, queue_length=0, temperature=50)
    household.plan = a_plan("modes: {other: {}}\nadapt: [{use: other, when: power > 5W}]")
    household.adapt(1.0, power=1.0)

    assert household.mode is None


def test_a_mode_that_does_not_fit_the_engine_is_refused_with_its_place() -> None:
    engine = an_engine(energies_j=[None] * 4)

    with pytest.raises(Faulty) as caught:
        a_plan("modes: {saver: {bounds: {energy: 1J}, exit_when: [exit >= 0]}}", engine=engine)

    assert [fault.path for fault in caught.value.faults] == [
        ("modes", "saver", "exit_when"),
        ("modes", "saver", "bounds", "energy"),
    ]


def test_activity_tells_of_the_last_seconds_only() -> None:
    activity = Activity()
    for number in range(100):
        activity.arrived(number * 0.1)
        activity.answered(number * 0.1, response_time_s=number * 1e-3, queue_time_s=0.002)
        activity.spent(number * 0.1, number * 0.5)

    assert activity.arrival_rate_hz(10.0) == pytest.approx(10.0)
    assert activity.p95_response_time_s(10.0) == pytest.approx(0.094, abs=0.002)
    assert activity.queue_delay_s(10.0) == pytest.approx(0.002)
    assert activity.energy_per_hour_j() == pytest.approx(18_000.0)
    assert activity.arrival_rate_hz(100.0) == 0.0
    assert activity.p95_response_time_s(100.0) is None
    assert activity.queue_delay_s(100.0) is None


def test_a_flood_is_counted_by_the_time_that_the_last_thousand_took() -> None:
    activity = Activity()
    for number in range(5000):
        activity.arrived(number / 1000)

    assert activity.arrival_rate_hz(5.0) == pytest.approx(1000.0, rel=0.01)


def test_before_anything_was_spent_there_is_no_rate_of_it() -> None:
    assert Activity().energy_per_hour_j() is None


def test_activity_can_be_told_from_a_moment_on() -> None:
    activity = Activity()
    for number in range(100):
        time_s = number * 0.1
        taken_s = 0.5 if time_s < 5.0 else 0.1
        activity.answered(time_s, response_time_s=taken_s, queue_time_s=taken_s / 2)
        activity.spent(time_s, number * (2.0 if time_s < 4.0 else 1.0))

    assert activity.p95_response_time_s(10.0, 0.0) == pytest.approx(0.5)
    assert activity.p95_response_time_s(10.0, 5.0) == pytest.approx(0.1)
    assert activity.queue_delay_s(10.0, 5.0) == pytest.approx(0.05)
    assert activity.energy_per_hour_j(4.0) == pytest.approx(36_000.0)


def test_too_few_answers_since_a_moment_tell_nothing_yet() -> None:
    activity = Activity()
    for number in range(10):
        activity.answered(float(number), response_time_s=0.1, queue_time_s=0.0)
        activity.spent(float(number), float(number))

    assert activity.p95_response_time_s(9.0, 5.0) is None
    assert activity.p95_response_time_s(16.0, 5.0) == pytest.approx(0.1)
    assert activity.energy_per_hour_j(6.0) is None
