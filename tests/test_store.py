"""What outlasts a restart: the inference log and the policies."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlite_utils import Database

from appliance.errors import StoreError
from appliance.messages import Candidate, Rejection, Reply, RequestKey, Result
from appliance.migrations import MIGRATIONS
from appliance.reader import Reader
from appliance.records import REPLY_COLUMNS
from appliance.store import UNACKNOWLEDGED_RECORDS, Store
from appliance.writer import Gathering, Inbox, Record
from tests.waiting import wait_until

NOW_S = 1_790_000_000.0
DAY_S = 86_400.0


RESULT = Result(
    id="r0",
    tenant="gate",
    stream="left",
    engine="digits",
    exit=1,
    label="seven",
    index=7,
    confidence=0.93,
    top=(
        Candidate(label="seven", index=7, confidence=0.93),
        Candidate(label="one", index=1, confidence=0.05),
    ),
    response_time_ms=12.5,
    queue_time_ms=0.5,
    energy_mj=3.25,
    energy_source="modelled",
    accuracy=0.95,
    stopped_by="condition",
    unmet=("energy",),
    policy_version=3,
    mode=None,
    appliance="box",
    arrived_at="2026-09-21T14:13:20.000+00:00",
)
REJECTION = Rejection(
    id="j0",
    tenant="gate",
    stream=None,
    code=415,
    reason="unknown type",
    detail="text/html is no frame",
    appliance="box",
    arrived_at="2026-09-21T14:13:20.000+00:00",
)
KEY = RequestKey(tenant="gate", digest=b"digest", correlation=b"1")


def result(number: int, *, tenant: str = "gate", arrived_s: float = NOW_S) -> Result:
    arrived_at = datetime.fromtimestamp(arrived_s, timezone.utc).isoformat(timespec="milliseconds")
    return replace(RESULT, id=f"r{number}", tenant=tenant, arrived_at=arrived_at)


@dataclass
class Gateway:
    """Stands where the gateway stands: it hears what was logged, and would acknowledge it."""

    heard: list[tuple[int, RequestKey | None, Reply]] = field(default_factory=list)

    def logged(self, delivery: int, key: RequestKey | None, reply: Reply) -> None:
        self.heard.append((delivery, key, reply))

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.heard) >= count)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "delen.db"


@contextmanager
def opened(
    path: Path,
    gateway: Gateway | None = None,
    *,
    max_age_s: float = 30 * DAY_S,
    max_bytes: int = 100_000_000,
) -> Iterator[Store]:
    listener = (gateway or Gateway()).logged
    with Store(
        path, max_age_s=max_age_s, max_bytes=max_bytes, on_logged=listener, clock=lambda: NOW_S
    ) as store:
        yield store


def log_all(path: Path, *replies: Reply, key: RequestKey | None = None) -> None:
    with opened(path) as store:
        for reply in replies:
            store.log(reply, delivery=0, key=key)


def logged(path: Path) -> list[Reply]:
    with Reader(path) as reader:
        return list(reader.inferences())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the database, and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# The log


@pytest.mark.parametrize("reply", [RESULT, REJECTION, replace(RESULT, top=(), energy_mj=None)])
def test_a_reply_is_read_as_it_was_logged(path: Path, reply: Reply) -> None:
    log_all(path, reply)

    assert logged(path) == [reply]


def test_every_field_of_a_reply_has_its_column(path: Path) -> None:
    log_all(path)

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("PRAGMA table_info(inferences)").fetchall()
    assert set(REPLY_COLUMNS) <= {row[1] for row in rows}


def test_a_record_is_committed_before_anybody_hears_of_it(path: Path) -> None:
    seen: list[Reply] = []

    def listen(_delivery: int, _key: RequestKey | None, _reply: Reply) -> None:
        seen.extend(logged(path))

    with Store(path, max_age_s=DAY_S, max_bytes=10**8, on_logged=listen) as store:
        store.log(RESULT, delivery=1, key=None)

    assert seen == [RESULT]


def test_what_was_logged_is_reported_with_its_delivery_and_its_key(path: Path) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        store.log(RESULT, delivery=7, key=KEY)
        store.log(REJECTION, delivery=8, key=None)

    assert gateway.heard == [(7, KEY, RESULT), (8, None, REJECTION)]


def test_a_listener_that_fails_does_not_stop_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_delivery: int, _key: RequestKey | None, _reply: Reply) -> None:
        raise RuntimeError("the gateway stumbled")

    with Store(path, max_age_s=DAY_S, max_bytes=10**8, on_logged=fail) as store:
        store.log(result(0), delivery=1, key=None)
        store.log(result(1), delivery=2, key=None)

    assert len(logged(path)) == 2
    assert "the gateway stumbled" in caplog.text


def test_a_request_answered_twice_is_in_the_log_once_and_both_are_reported(path: Path) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        store.log(result(0), delivery=1, key=KEY)
        store.log(result(1), delivery=2, key=KEY)

    assert logged(path) == [result(0)]
    assert [delivery for delivery, _, _ in gateway.heard] == [1, 2]


def record(number: int) -> Record:
    return Record(reply=result(number), delivery=number, key=None)


def test_enough_records_do_not_wait_for_more() -> None:
    inbox = Inbox(Gathering(longest_s=1e6, enough=2))
    inbox.put(record(0))
    inbox.put(record(1))

    assert inbox.gather(timeout_s=1e6) == [record(0), record(1)]


def test_what_somebody_waits_for_ends_the_gathering() -> None:
    inbox = Inbox(Gathering(longest_s=1e6, enough=10))
    inbox.put(record(0))
    inbox.put(None)

    assert inbox.gather(timeout_s=1e6) == [record(0), None]


def test_a_broker_that_sends_one_at_a_time_is_not_made_to_wait() -> None:
    inbox = Inbox(Gathering.below(1, longest_s=1e6))
    inbox.put(record(0))

    assert inbox.gather(timeout_s=1e6) == [record(0)]


def test_records_that_come_one_by_one_are_committed_together(path: Path) -> None:
    gateway = Gateway()
    seen: list[int] = []

    def listen(delivery: int, key: RequestKey | None, reply: Reply) -> None:
        seen.append(len(logged(path)))
        gateway.logged(delivery, key, reply)

    gathering = Gathering(longest_s=1e6, enough=3)
    with Store(
        path, max_age_s=DAY_S, max_bytes=10**8, on_logged=listen, gathering=gathering
    ) as store:
        for number in range(3):
            store.log(result(number), delivery=number + 1, key=None)
        gateway.wait_for(3)

    assert seen == [3, 3, 3]


def test_a_reply_is_found_by_its_request(path: Path) -> None:
    with opened(path) as store:
        store.log(result(0), delivery=1, key=KEY)
        store.log(result(1), delivery=2, key=replace(KEY, correlation=b"2"))

    with Reader(path) as reader:
        assert reader.find(KEY) == result(0)
        assert reader.find(replace(KEY, correlation=b"2")) == result(1)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, tenant="door"),
        replace(KEY, digest=b"another frame"),
        replace(KEY, correlation=b"2"),
        replace(KEY, correlation=None, packet_id=1),
    ],
)
def test_another_request_is_not_found(path: Path, other: RequestKey) -> None:
    log_all(path, RESULT, key=KEY)

    with Reader(path) as reader:
        assert reader.find(other) is None


def test_a_rejected_request_that_is_tried_again_has_both_outcomes(path: Path) -> None:
    log_all(path, REJECTION, RESULT, key=KEY)

    with Reader(path) as reader:
        assert reader.find(KEY) == RESULT
    assert logged(path) == [REJECTION, RESULT]


def test_a_packet_id_that_is_used_again_names_the_newest_request(path: Path) -> None:
    key = RequestKey(tenant="gate", digest=b"digest", packet_id=5)

    log_all(path, result(0), result(1), key=key)

    with Reader(path) as reader:
        assert reader.find(key) == result(1)
    assert len(logged(path)) == 2


def test_the_log_is_read_by_tenant_by_time_and_from_its_end(path: Path) -> None:
    gate = [result(n, arrived_s=NOW_S + n) for n in range(4)]
    door = [result(n + 10, tenant="door", arrived_s=NOW_S + n) for n in range(2)]
    log_all(path, *gate, *door)

    with Reader(path) as reader:
        assert list(reader.inferences(tenant="gate")) == gate
        assert list(reader.inferences(tenant="gate", since_s=NOW_S + 2)) == gate[2:]
        assert list(reader.inferences(tenant="gate", limit=2)) == gate[2:]
        assert list(reader.inferences(tenant="door", since_s=NOW_S + 1, limit=5)) == door[1:]
        assert list(reader.inferences(limit=0)) == []
        assert len(list(reader.inferences())) == 6


def test_a_log_longer_than_a_page_is_read_whole_and_once(path: Path) -> None:
    # Many arrive in the same millisecond, as the frames of one batch do.
    replies = [result(n, arrived_s=NOW_S + n // 100) for n in range(1700)]
    log_all(path, *replies)

    assert logged(path) == replies


def test_a_reader_sees_rows_while_the_writer_works(path: Path) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store, Reader(path) as reader:
        counts = []
        for number in range(20):
            store.log(result(number), delivery=number + 1, key=None)
            gateway.wait_for(number + 1)
            counts.append(sum(1 for _ in reader.inferences()))

    assert counts == list(range(1, 21))


def test_a_reader_in_the_middle_of_the_log_does_not_hold_the_writer(path: Path) -> None:
    gateway = Gateway()
    log_all(path, *(result(n, arrived_s=NOW_S + n) for n in range(600)))

    with opened(path, gateway) as store, Reader(path) as reader:
        rows = reader.inferences()
        next(rows)
        store.log(result(600, arrived_s=NOW_S + 600), delivery=1, key=None)
        gateway.wait_for(1)
        left = sum(1 for _ in rows)

    assert left == 600


def test_a_reply_that_cannot_be_written_does_not_hold_up_the_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        store.log(replace(RESULT, id="too large", index=2**70), delivery=1, key=None)
        store.log(replace(RESULT, id="half a character", label="\ud800"), delivery=2, key=None)
        store.log(RESULT, delivery=3, key=None)

    assert logged(path) == [RESULT]
    assert len(gateway.heard) == 3
    assert "too large cannot be logged" in caplog.text


WRITE_UNTIL_KILLED = """
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Semaphore

from appliance.store import Store
from tests.test_store import RESULT, RequestKey

receive_maximum = Semaphore(64)

def acknowledge(delivery, key, reply):
    print(reply.id, flush=True)
    receive_maximum.release()

with Store(Path(sys.argv[1]), max_age_s=1e9, max_bytes=10**9, on_logged=acknowledge) as store:
    for number in count(1):
        receive_maximum.acquire()
        key = RequestKey(tenant="gate", digest=b"digest", correlation=str(number).encode())
        store.log(replace(RESULT, id=str(number)), delivery=number, key=key)
"""


def test_after_a_kill_every_acknowledged_record_is_there(path: Path) -> None:
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(3000)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.readlines()

    with opened(path):
        kept = {reply.id for reply in logged(path)}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # The last line may have been cut short by the kill.
    assert {line.strip() for line in acknowledged if line.endswith("\n")} <= kept


# Trouble with the disk


def test_while_the_database_is_locked_records_are_kept_and_nothing_is_acknowledged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        with locked(path):
            store.log(RESULT, delivery=1, key=None)
            wait_until(lambda: store.failed is not None)
            reason, heard_while_locked = store.failed, len(gateway.heard)
        gateway.wait_for(1)

        assert reason is not None
        assert "database is locked" in reason
        assert heard_while_locked == 0
        assert store.failed is None
    assert logged(path) == [RESULT]
    assert caplog.text.count("the log cannot be written") == 1
    assert caplog.text.count("the log is written again") == 1


def test_a_full_disk_is_waited_out(path: Path) -> None:
    # A limit on the size of files stands for the full disk; a child has it to itself.
    script = """
    import resource, sys, time
    from pathlib import Path
    from appliance.store import Store
    from tests.test_store import Gateway, result
    from tests.waiting import wait_until

    gateway = Gateway()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(Path(sys.argv[1]), max_age_s=1e9, max_bytes=10**9, on_logged=gateway.logged) as s:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited[1]))
        for number in range(2000):
            s.log(result(number), delivery=number, key=None)
        wait_until(lambda: s.failed is not None)
        print(s.failed, file=sys.stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        gateway.wait_for(2000)
        assert s.failed is None
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stderr
    assert len(logged(path)) == 2000


def test_a_store_closed_while_it_cannot_write_says_what_is_lost(path: Path) -> None:
    store = Store(path, max_age_s=DAY_S, max_bytes=10**8, on_logged=Gateway().logged)
    store.__enter__()

    with locked(path):
        store.log(RESULT, delivery=1, key=None)
        wait_until(lambda: store.failed is not None)
        with pytest.raises(StoreError, match="1 records or more are lost: database is locked"):
            store.close()


def test_too_many_records_that_nobody_waits_for_are_turned_away(path: Path) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        with locked(path):
            for number in range(UNACKNOWLEDGED_RECORDS + 1000):
                store.log(result(number), delivery=0, key=None)
            store.log(replace(RESULT, id="awaited"), delivery=1, key=None)
            turned_away = store.turned_away
        gateway.wait_for(UNACKNOWLEDGED_RECORDS + 1001 - turned_away)

    assert 0 < turned_away <= 1000
    assert gateway.heard[-1][2].id == "awaited"


# Policies


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


# Retention


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


# The file


def test_an_older_database_is_copied_and_then_migrated(path: Path) -> None:
    with Database(path) as old:
        MIGRATIONS.apply(old, stop_before="create_policies")
        old.execute(
            "INSERT INTO inferences (id, tenant, status, appliance, arrived_at, arrived_s, code)"
            " VALUES ('j0', 'gate', 'rejected', 'box', '2026-09-21T14:13:20+00:00', ?, 415)",
            [NOW_S],
        )

    with opened(path) as store:
        store.save_policy("gate", 1, "first")

    copy = path.with_name("delen.db.before-create_policies")
    with Database(copy) as kept:
        assert kept.table("inferences").count == 1
        assert "policies" not in kept.table_names()
    assert [reply.id for reply in logged(path)] == ["j0"]


def test_a_new_database_leaves_no_copy(path: Path) -> None:
    log_all(path)
    log_all(path)

    assert {file.name for file in path.parent.iterdir()} == {"delen.db", "delen.db.lock"}


def test_an_older_database_is_not_read_before_it_is_migrated(path: Path) -> None:
    with Database(path) as old:
        MIGRATIONS.apply(old, stop_before="create_policies")

    with pytest.raises(StoreError, match="older than this program: start the appliance once"):
        Reader(path)


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    log_all(path)
    with Database(path) as newer:
        newer.table("_sqlite_migrations").insert(
            {"migration_set": "delen", "name": "add_moods", "applied_at": "2030-01-01"}
        )

    with pytest.raises(StoreError, match=r"newer version \(add_moods\): install that version"):
        log_all(path)


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with Database(path) as other:
        other.table("photos").insert({"id": 1})
    before = path.read_bytes()

    with pytest.raises(StoreError, match="belongs to another program"):
        log_all(path)

    assert path.read_bytes() == before


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: create it"):
        log_all(tmp_path / "missing" / "delen.db")


@pytest.mark.parametrize("in_the_way", ["delen.db", "delen.db.lock"])
def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, in_the_way: str) -> None:
    path = tmp_path / "delen.db"
    (tmp_path / in_the_way).mkdir()

    with pytest.raises(StoreError, match=r"cannot be opened.*may be written"):
        log_all(path)


def test_a_reader_without_a_database_says_how_to_come_by_one(path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no database at .*: start the appliance"):
        Reader(path)


def test_a_reader_changes_nothing(path: Path) -> None:
    log_all(path, RESULT)
    before = path.read_bytes()

    logged(path)

    assert path.read_bytes() == before
