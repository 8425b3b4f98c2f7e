"""Shares: who had more of the device than its part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.shares import ACTIVE_S, REFRESH_S, Shares


class Household:
    """Tenants that use the device for so much of each hundredth of a second."""

    def __init__(self, **weights: float) -> None:
        self.shares = Shares()
        self.weights = weights
        self.now_s = 100.0

    def live(self, seconds: float, **used: float) -> None:
        ends_s = self.now_s + seconds
        while self.now_s < ends_s:
            self.now_s += 0.01
            for tenant, part in used.items():
                self.shares.arrived(
                    tenant, weight=self.weights[tenant], tolerance_s=0.05, now_s=self.now_s
                )
                self.shares.used(tenant, part * 0.01, self.now_s)
            self.shares.refresh(self.now_s, ())


def test_a_flood_is_soon_beyond_its_share() -> None:
    household = Household(loud=1.0, quiet=1.0, calm=1.0)

    household.live(2.5, loud=0.9, quiet=0.05, calm=0.05)

    assert household.shares.beyond == {"loud"}


def test_whoever_is_alone_has_the_whole_device_for_a_share() -> None:
    household = Household(loud=1.0)

    household.live(5.0, loud=1.0)

    assert household.shares.beyond == set()


def test_of_two_tenants_one_can_be_beyond_its_half() -> None:
    household = Household(loud=1.0, quiet=1.0)

    household.live(5.0, loud=0.9, quiet=0.1)

    assert household.shares.beyond == {"loud"}


def test_tenants_that_use_their_shares_are_within_them() -> None:
    household = Household(one=1.0, two=1.0)

    household.live(5.0, one=0.55, two=0.45)

    assert household.shares.beyond == set()


def test_a_weight_widens_the_share() -> None:
    household = Household(loud=8.0, quiet=1.0, calm=1.0)

    household.live(5.0, loud=0.9, quiet=0.05, calm=0.05)

    assert household.shares.beyond == set()


def test_what_a_tenant_may_count_on_is_what_the_others_leave() -> None:
    household = Household(loud=1.0, quiet=1.0)

    household.live(10.0, loud=0.8, quiet=0.2)

    assert household.shares.rate("loud") == pytest.approx(0.8, abs=0.02)
    assert household.shares.rate("quiet") == pytest.approx(0.5, abs=0.02)


def test_a_tenant_that_waits_is_kept_its_whole_share() -> None:
    household = Household(loud=1.0, quiet=1.0)
    household.live(10.0, loud=0.9, quiet=0.1)

    household.shares.refresh(household.now_s + REFRESH_S, ["quiet"])

    assert household.shares.rate("loud") == pytest.approx(0.5)


def test_a_tenant_that_has_gone_keeps_nothing() -> None:
    household = Household(loud=1.0, quiet=1.0)
    household.live(5.0, loud=0.6, quiet=0.4)

    household.live(ACTIVE_S + 1.0, loud=1.0)

    assert household.shares.rate("loud") == 1.0
    assert household.shares.beyond == set()


def test_it_is_told_how_many_requests_a_long_stage_would_block() -> None:
    household = Household(brisk=1.0)
    household.live(20.0, brisk=0.1)

    assert household.shares.blocked(0.040) == 0.0
    assert household.shares.blocked(0.060) == pytest.approx(100 * 0.010, rel=0.05)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.floats(0.0, 0.1), st.floats(0.0, 2.0)), max_size=60
    )
)
def test_nobody_counts_on_more_than_there_is(uses: list[tuple[str, float, float]]) -> None:
    shares, now_s = Shares(), 0.0
    for tenant, used_s, pause_s in uses:
        now_s += pause_s + used_s
        shares.arrived(tenant, weight=1.0, tolerance_s=1.0, now_s=now_s)
        shares.used(tenant, used_s, now_s)
        shares.refresh(now_s, ())

    assert all(0.0 <= shares.rate(tenant) <= 1.0 for tenant in "abcd")
    assert shares.beyond <= set("abcd")
