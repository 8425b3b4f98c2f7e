"""Budgets: what a period gives is never overdrawn, is spent where there is work, is shared."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.budgets import Budgets
from appliance.device_budget import DeviceBudget, parse_device_budget
from appliance.energy import Energy, StageRun
from appliance.pacing import Pacer
from appliance.policy import Policy, parse_policy
from appliance.quantities import QuantityError


def a_policy(tenant: str = "gate", *, budget: str = "{energy: 10J, per: 60s}") -> Policy:
    return parse_policy(f"tenant: {tenant}\nversion: 1\nengine: net\nbudget: {budget}")


def an_unlimited(tenant: str) -> Policy:
    return parse_policy(f"tenant: {tenant}\nversion: 1\nengine: net")


class Household:
    """Budgets over an energy without a meter, so that what is spent is what is said."""

    def __init__(self, *, weights: Mapping[str, float] | None = None) -> None:
        self.energy = Energy()
        self.weights = dict(weights or {})
        self.budgets = Budgets(energy=self.energy, weights=lambda: self.weights)

    def spend(self, tenant: str, joules: float, now_s: float) -> None:
        self.energy.ran(
            StageRun(tenant=tenant, engine="net", modelled_j=joules, started_s=now_s, ended_s=now_s)
        )

    def left_j(self, policy: Policy, now_s: float) -> float:
        balance = self.budgets.balance(policy, now_s)
        assert balance is not None
        return balance.left_j


def test_without_a_budget_there_is_no_limit() -> None:
    assert Household().budgets.balance(an_unlimited("gate"), 0.0) is None


def test_what_is_spent_is_gone_until_the_period_ends() -> None:
    household, policy = Household(), a_policy()
    household.left_j(policy, 0.0)
    household.spend("gate", 4.0, 10.0)

    at_first = household.budgets.balance(policy, 20.0)
    assert at_first is not None

    assert (at_first.left_j, at_first.remaining, at_first.ends_in_s) == (6.0, 0.6, 40.0)
    assert household.left_j(policy, 59.9) == 6.0
    assert household.left_j(policy, 60.0) == 10.0


def test_after_many_periods_the_next_one_begins_where_it_would_have() -> None:
    household, policy = Household(), a_policy()
    household.left_j(policy, 0.0)

    balance = household.budgets.balance(policy, 150.0)

    assert balance is not None
    assert balance.ends_in_s == 30.0


def test_a_new_version_of_a_policy_does_not_fill_the_budget() -> None:
    household = Household()
    household.left_j(a_policy(), 0.0)
    household.spend("gate", 4.0, 10.0)

    assert household.left_j(a_policy(budget="{energy: 20J, per: 60s}"), 20.0) == 16.0


def test_budgets_outlast_a_restart_and_a_clock_that_went_back() -> None:
    before, policy = Household(weights={"gate": 1.0}), a_policy()
    before.budgets.set_device(DeviceBudget(energy_j=8.0, per_s=60.0))
    before.left_j(policy, 0.0)
    before.spend("gate", 4.0, 10.0)
    saved = before.budgets.save(20.0)

    after = Household(weights={"gate": 1.0})
    after.budgets.set_device(DeviceBudget(energy_j=8.0, per_s=60.0))
    for state in saved:
        after.budgets.restore(state, 20.0)
    went_back = Household()
    for state in saved:
        went_back.budgets.restore(state, -1000.0)

    own, of_device = after.budgets.own(policy, 20.0), after.budgets.of_device(policy, 20.0)
    assert own is not None
    assert of_device is not None
    assert (own.left_j, own.ends_in_s) == (6.0, 40.0)
    assert (of_device.left_j, of_device.ends_in_s) == (4.0, 40.0)
    assert went_back.left_j(policy, -1000.0) == 6.0
    assert went_back.left_j(policy, -940.0) == 10.0


# What is reserved for first exits.

FIRST_J, WHOLE_J = 1.0, 5.0


def served(
    household: Household, policies: Mapping[str, Policy], moments: list[tuple[float, str]]
) -> dict[str, float]:
    """Answers every request from the last exit where the budget allows it, else from the first."""
    spent_j = dict.fromkeys(policies, 0.0)
    for now_s, tenant in moments:
        policy = policies[tenant]
        household.budgets.arrived(policy, now_s, first_exit_j=FIRST_J)
        household.spend(tenant, FIRST_J, now_s)
        balance = household.budgets.balance(policy, now_s)
        assert balance is not None
        deeper_j = WHOLE_J - FIRST_J if balance.usable_j >= WHOLE_J - FIRST_J else 0.0
        household.spend(tenant, deeper_j, now_s)
        spent_j[tenant] += FIRST_J + deeper_j
    return spent_j


def poisson(tenant: str, rate_hz: float, chance: random.Random) -> list[tuple[float, str]]:
    moments, now_s = [], 0.0
    while (now_s := now_s + chance.expovariate(rate_hz)) < 3600.0:
        moments.append((now_s, tenant))
    return moments


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 2.0), st.floats(1.5, 4.0), st.integers(0, 2**32))
def test_a_budget_lasts_for_the_first_exits_and_is_used_up(
    rate_hz: float, each_j: float, seed: int
) -> None:
    chance = random.Random(seed)
    budget_j = each_j * rate_hz * 3600.0
    policy = a_policy(budget=f"{{energy: {budget_j!r}, per: 1h}}")
    household = Household()
    household.left_j(policy, 0.0)

    spent_j = served(household, {"gate": policy}, poisson("gate", rate_hz, chance))["gate"]

    assert 0.95 * budget_j <= spent_j <= budget_j


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_the_device_s_budget_lasts_for_everybody_s_first_exits(seed: int) -> None:
    chance = random.Random(seed)
    household = Household(weights={"gate": 3.0, "meter": 1.0})
    energy_j = 2.0 * 2.3 * 3600.0
    household.budgets.set_device(DeviceBudget(energy_j=energy_j, per_s=3600.0))
    policies = {tenant: an_unlimited(tenant) for tenant in household.weights}
    moments = sorted(poisson("gate", 0.5, chance) + poisson("meter", 1.5, chance))

    spent_j = served(household, policies, moments)

    assert 0.93 * energy_j <= sum(spent_j.values()) <= energy_j
    # The gate may spend three quarters, and has no more than so much to do.
    assert spent_j["gate"] >= 0.9 * min(0.75 * energy_j, WHOLE_J * 0.5 * 3600.0)


def test_a_tenant_that_is_turned_away_when_its_budget_is_spent_reserves_nothing() -> None:
    household = Household()
    policy = a_policy(budget="{energy: 10J, per: 60s, exhausted: reject}")
    for number in range(50):
        household.budgets.arrived(policy, number * 1.0, first_exit_j=1.0)

    balance = household.budgets.balance(policy, 50.0)

    assert balance is not None
    assert balance.reserved_j == 0.0


# The device's budget.


def shared(weights: Mapping[str, float], *, energy_j: float = 100.0) -> Household:
    household = Household(weights=weights)
    household.budgets.set_device(DeviceBudget(energy_j=energy_j, per_s=100.0))
    return household


def test_at_first_each_tenant_has_its_share_by_weight() -> None:
    household = shared({"gate": 3.0, "meter": 1.0})

    assert household.left_j(an_unlimited("gate"), 0.0) == pytest.approx(75.0)
    assert household.left_j(an_unlimited("meter"), 0.0) == pytest.approx(25.0)


def test_what_one_leaves_others_may_use_as_time_goes_by() -> None:
    household = shared({"gate": 1.0, "meter": 1.0})
    household.left_j(an_unlimited("gate"), 0.0)

    half_way_j = household.left_j(an_unlimited("gate"), 50.0)
    at_the_end_j = household.left_j(an_unlimited("gate"), 99.9)

    assert half_way_j == pytest.approx(75.0)
    assert at_the_end_j == pytest.approx(100.0, rel=0.01)


def test_what_others_used_up_is_gone_but_what_is_to_come_is_kept() -> None:
    household = shared({"gate": 1.0, "meter": 1.0})
    household.left_j(an_unlimited("gate"), 0.0)
    household.spend("gate", 75.0, 50.0)

    assert household.left_j(an_unlimited("gate"), 51.0) == pytest.approx(0.5)
    assert household.left_j(an_unlimited("meter"), 51.0) == pytest.approx(25.0, abs=0.51)


def test_a_tenant_s_own_budget_and_the_device_s_hold_both() -> None:
    household = shared({"gate": 1.0, "meter": 1.0}, energy_j=8.0)
    policy = a_policy(budget="{energy: 10J, per: 60s}")

    assert household.left_j(policy, 0.0) == pytest.approx(4.0)


def test_a_device_budget_may_be_changed_and_what_was_spent_stays_spent() -> None:
    household = shared({"gate": 1.0})
    household.left_j(an_unlimited("gate"), 0.0)
    household.spend("gate", 30.0, 1.0)
    household.budgets.set_device(DeviceBudget(energy_j=50.0, per_s=100.0))

    assert household.left_j(an_unlimited("gate"), 2.0) == pytest.approx(20.0)

    household.budgets.set_device(None)

    assert household.budgets.balance(an_unlimited("gate"), 3.0) is None


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "d"]), st.floats(0.1, 10.0), min_size=1, max_size=4
    ),
    st.randoms(use_true_random=False),
)
def test_all_together_never_overdraw_the_device_and_a_constant_worker_gets_its_share(
    weights: dict[str, float], chance: random.Random
) -> None:
    household = shared(weights)
    policies = {tenant: an_unlimited(tenant) for tenant in weights}
    worker = chance.choice(sorted(weights))
    cost_j, spent = 0.5, dict.fromkeys(weights, 0.0)
    for step in range(200):
        now_s = step * 0.5
        # The others are greedy, idle, or anything between; the worker asks all the time.
        for tenant in chance.sample(sorted(weights), k=chance.randint(1, len(weights))):
            for _ in range(chance.randint(0, 6)):
                if household.left_j(policies[tenant], now_s) >= cost_j:
                    household.spend(tenant, cost_j, now_s)
                    spent[tenant] += cost_j
        while household.left_j(policies[worker], now_s) >= cost_j:
            household.spend(worker, cost_j, now_s)
            spent[worker] += cost_j

    share_j = 100.0 * weights[worker] / sum(weights.values())
    assert sum(spent.values()) <= 100.0 + 1e-9
    assert spent[worker] >= share_j - cost_j - 1e-9
    # With somebody who always has work nothing is left, but for what came in the last steps.
    assert sum(spent.values()) >= 98.0


@pytest.mark.parametrize("text", ["2kJ", "2kJ per", "2kJ per 1W", "-1J per 1h", "0J per 1h", "x"])
def test_a_device_budget_is_joules_per_period(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_device_budget(text)


def test_a_device_budget_is_read_back_to_the_last_digit() -> None:
    budget = parse_device_budget("1234.5678J per 1h")

    assert parse_device_budget(budget.exactly()) == budget
    assert str(budget) == "1.235 kJ per 1 h"


# Pace.


def test_the_price_settles_where_answers_cost_what_they_may() -> None:
    pacer, chance = Pacer(), random.Random(1)
    spent_j = 0.0
    for number in range(20_000):
        cost_j = 1.0
        deeper = pacer.is_worth(chance.random(), 1.0)
        cost_j += 1.0 if deeper else 0.0
        pacer.follow(cost_j, target_j=1.3, to_come=10_000)
        if number >= 10_000:
            spent_j += cost_j

    assert spent_j / 10_000 == pytest.approx(1.3, rel=0.02)


def test_with_plenty_everything_is_worth_it_and_with_nothing_hardly_anything() -> None:
    rich, poor = Pacer(), Pacer()
    for _ in range(2_000):
        rich.is_worth(0.5, 1.0)
        rich.follow(2.0, target_j=100.0, to_come=100)
        poor.is_worth(0.5, 1.0)
        poor.follow(1.0, target_j=0.0, to_come=100)

    assert rich.is_worth(0.001, 1.0)
    assert not poor.is_worth(1.0, 1.0)


def test_what_costs_nothing_is_always_worth_it() -> None:
    assert Pacer().is_worth(0.0, 0.0)


def test_of_a_removed_tenant_what_it_spent_is_kept_and_nothing_else() -> None:
    household, policy = Household(), a_policy()
    household.left_j(policy, 0.0)
    household.spend("gate", 4.0, 1.0)
    for number in range(30):
        household.budgets.arrived(policy, 1.0 + number, first_exit_j=0.01)
    reserving = household.budgets.balance(policy, 31.0)

    household.budgets.forget_others(())
    forgotten = household.budgets.balance(policy, 31.0)

    assert reserving is not None
    assert forgotten is not None
    assert reserving.left_j == forgotten.left_j == 6.0
    assert reserving.usable_j < forgotten.usable_j
