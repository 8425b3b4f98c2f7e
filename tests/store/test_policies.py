"""The policies that a store keeps, and their history."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import StoreError
from appliance.reader import Reader
from tests.stores import NOW_S, locked, opened


def test_a_policy_is_in_force_after_a_restart(path: Path) -> None:
    with opened(path) as store:
        store.save_policy("gate", 3, "tenant: gate\n")

    with opened(path), Reader(path) as reader:
        (policy,) = reader.policies()
    assert (policy.tenant, policy.version, policy.source) == ("gate", 3, "tenant: gate\n")
    assert policy.accepted_s == NOW_S
    assert policy.in_force


def test_a_replaced_policy_stays_in_the_history(path: Path) -> None:
    with opened(path) as store, Reader(path) as reader:
        store.save_policy("gate", 1, "first")
        store.save_policy("gate", 2, "second")

        assert [policy.source for policy in reader.policies()] == ["second"]
        assert [policy.source for policy in reader.history("gate")] == ["first", "second"]
        assert [policy.in_force for policy in reader.history("gate")] == [False, True]


def test_a_policy_saved_again_unchanged_leaves_no_trace(path: Path) -> None:
    with opened(path) as store, Reader(path) as reader:
        store.save_policy("gate", 1, "first")
        store.save_policy("gate", 1, "first")

        assert len(reader.history("gate")) == 1


def test_a_tenant_whose_policy_was_removed_is_told_from_one_that_never_had_any(path: Path) -> None:
    with opened(path) as store, Reader(path) as reader:
        store.save_policy("gate", 1, "first")
        store.remove_policy("gate")
        store.remove_policy("never seen")

        assert reader.policies() == []
        assert reader.known_tenants() == {"gate"}
        assert reader.history("gate")[0].removed_s == NOW_S


def test_a_removed_policy_may_come_back(path: Path) -> None:
    with opened(path) as store, Reader(path) as reader:
        store.save_policy("gate", 1, "first")
        store.remove_policy("gate")
        store.save_policy("gate", 1, "first")

        assert [policy.in_force for policy in reader.history("gate")] == [False, True]


def test_a_policy_that_cannot_be_written_is_refused_and_not_written_later(path: Path) -> None:
    with opened(path) as store:
        with locked(path), pytest.raises(StoreError, match=r"locked\. Another program"):
            store.save_policy("gate", 1, "first")
        store.save_policy("door", 1, "first")

        with Reader(path) as reader:
            assert reader.known_tenants() == {"door"}


def test_a_policy_waits_for_another_program_that_writes(path: Path) -> None:
    with (
        opened(path) as store,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.1, other.rollback)
        end.start()

        store.save_policy("gate", 1, "first")

        end.join()
        with Reader(path) as reader:
            assert reader.known_tenants() == {"gate"}


def test_a_closed_store_takes_no_policy(path: Path) -> None:
    with opened(path) as store:
        pass

    with pytest.raises(StoreError, match="closed"):
        store.save_policy("gate", 1, "first")
