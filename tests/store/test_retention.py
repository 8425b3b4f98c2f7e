"""Which rows are deleted for their age, or for want of room."""

from __future__ import annotations

from pathlib import Path

from appliance.reader import Reader
from tests.stores import DAY_S, NOW_S, Gateway, log_all, logged, opened, result
from tests.waiting import wait_until


def test_what_is_too_old_is_deleted_and_policies_stay(path: Path) -> None:
    old = [result(n, arrived_s=NOW_S - 2 * DAY_S) for n in range(1200)]
    young = result(9999, arrived_s=NOW_S)
    log_all(path, *old, young)

    with opened(path, max_age_s=DAY_S) as store:
        store.save_policy("gate", 1, "first")
        store.apply_retention()

    assert logged(path) == [young]
    with Reader(path) as reader:
        assert len(reader.policies()) == 1


def test_at_quiet_moments_old_rows_go_by_themselves(path: Path) -> None:
    log_all(path, result(0, arrived_s=NOW_S - 2 * DAY_S))

    with opened(path, max_age_s=DAY_S):
        wait_until(lambda: logged(path) == [])


def test_a_file_that_is_too_large_loses_its_oldest_rows_and_shrinks(path: Path) -> None:
    replies = [result(n, arrived_s=NOW_S + n) for n in range(5000)]
    log_all(path, *replies)
    size_before = path.stat().st_size

    with opened(path, max_bytes=1_000_000) as store:
        store.apply_retention()
        with_log = path.stat().st_size + path.with_name("delen.db-wal").stat().st_size
    left = logged(path)

    assert size_before > 1_500_000
    assert path.stat().st_size <= 1_000_000
    assert with_log < size_before
    assert left == replies[-len(left) :]
    assert len(left) > 500


def test_the_file_stays_within_its_size_while_records_come_in(path: Path) -> None:
    gateway = Gateway()
    sizes = []

    with opened(path, gateway, max_bytes=1_000_000) as store:
        for thousand in range(6):
            for number in range(1000):
                arrived_s = NOW_S + thousand * 1000 + number
                store.log(
                    result(thousand * 1000 + number, arrived_s=arrived_s), delivery=1, key=None
                )
            gateway.wait_for((thousand + 1) * 1000)
            store.apply_retention()
            wal = path.with_name("delen.db-wal")
            sizes.append(path.stat().st_size + wal.stat().st_size)

    # One batch of records and one of deletions may lie in the write-ahead log on top.
    assert max(sizes) < 2_000_000
    assert path.stat().st_size <= 1_000_000
