"""The inference log: what is committed together, and found again."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.messages import Reply, RequestKey
from appliance.reader import Reader
from appliance.records import REPLY_COLUMNS
from appliance.store import Store
from appliance.writer import Gathering, Inbox, Record
from tests.stores import (
    DAY_S,
    KEY,
    NOW_S,
    REJECTION,
    RESULT,
    Gateway,
    log_all,
    logged,
    opened,
    result,
)


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

from appliance.messages import RequestKey
from appliance.store import Store
from tests.stores import RESULT

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
