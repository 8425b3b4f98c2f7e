"""Policy states in a flood of pushes: the last one is always told, the others seldom."""

from __future__ import annotations

from dataclasses import replace

from appliance.messages import PolicyState
from appliance.state_quota import BURST, MOST_OWED_STRANGERS, StateQuota

KNOWN = {"gate", "garden"}


def a_state(tenant: str = "gate", version: int = 1) -> PolicyState:
    return PolicyState(tenant=tenant, appliance="box", version=version)


def flooded(count: int = 100) -> tuple[StateQuota, int]:
    quota = StateQuota()
    told = sum(quota.allows(a_state(version=number), KNOWN, 0.0) for number in range(count))
    return quota, told


def test_beyond_the_quota_the_last_state_is_told_later() -> None:
    quota, told = flooded()

    assert told == BURST
    assert quota.take_due(KNOWN, 0.0) == []
    assert quota.take_due(KNOWN, 0.5) == [a_state(version=99)]
    assert quota.take_due(KNOWN, 1.0) == []


def test_a_state_that_is_told_takes_the_place_of_one_that_is_owed() -> None:
    quota, _ = flooded()

    assert quota.allows(a_state(version=100), KNOWN, 0.5)
    assert quota.take_all() == []


def test_one_tenants_flood_keeps_no_others_state_back() -> None:
    quota, _ = flooded()

    assert quota.allows(a_state("garden"), KNOWN, 0.0)


def test_a_removed_policys_state_is_not_told_after_it() -> None:
    quota, _ = flooded()

    quota.forget("gate")

    assert quota.take_all() == []


def test_made_up_tenants_share_one_quota_and_the_newest_are_remembered() -> None:
    quota = StateQuota()
    names = [f"made-up-{number}" for number in range(2000)]

    told = sum(quota.allows(a_state(name), KNOWN, 0.0) for name in names)
    owed = quota.take_all()

    assert told == BURST
    assert owed == [replace(a_state(), tenant=name) for name in names[-MOST_OWED_STRANGERS:]]
