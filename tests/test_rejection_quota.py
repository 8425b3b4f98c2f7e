"""How many rejections are sent: a quota a tenant, one for all strangers, the rest counted."""

from __future__ import annotations

from appliance.rejection_quota import Muted, RejectionQuota

KNOWN = {"gate", "garden"}


def test_what_is_beyond_the_quota_is_counted_by_tenant_and_code() -> None:
    quota = RejectionQuota(10.0)

    sent = sum(quota.allows("gate", 400, KNOWN, 0.0) for _ in range(100))
    quota.allows("gate", 429, KNOWN, 0.0)

    assert sent == 10
    assert quota.take_muted(KNOWN) == [
        Muted(tenant="gate", code=400, count=90),
        Muted(tenant="gate", code=429, count=1),
    ]
    assert quota.take_muted(KNOWN) == []


def test_one_tenants_flood_mutes_no_other() -> None:
    quota = RejectionQuota(1.0)

    for _ in range(100):
        quota.allows("gate", 400, KNOWN, 0.0)

    assert quota.allows("garden", 400, KNOWN, 0.0)


def test_a_second_later_rejections_are_sent_again() -> None:
    quota = RejectionQuota(2.0)
    for _ in range(5):
        quota.allows("gate", 400, KNOWN, 0.0)

    again = [quota.allows("gate", 400, KNOWN, 1.0) for _ in range(3)]

    assert again == [True, True, False]


def test_made_up_tenants_share_one_quota_and_one_count() -> None:
    quota = RejectionQuota(3.0)

    sent = sum(quota.allows(f"made-up-{n}", 404, KNOWN, 0.0) for n in range(10_000))

    assert sent == 3
    assert len(quota) == 1
    assert quota.take_muted(KNOWN) == [Muted(tenant=None, code=404, count=9_997)]


def test_a_removed_tenant_is_forgotten() -> None:
    quota = RejectionQuota(3.0)
    quota.allows("gate", 400, KNOWN, 0.0)

    quota.take_muted({"garden"})

    assert len(quota) == 0
