"""What becomes of the log where the disk is full or another program holds on to the database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.backups import Backups
from appliance.broker import Mosquitto
from appliance.messages import Result
from appliance.reader import Reader
from appliance.store import Store
from tests.appliances import client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.stores import NOW_S, RESULT, Gateway, logged, result
from tests.waiting import wait_until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leaves no byte free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler


def store_of(path: Path, gateway: Gateway, *, max_bytes: int = 10**8) -> Store:
    return Store(
        path,
        max_age_s=1e9,
        max_bytes=max_bytes,
        on_logged=gateway.logged,
        backups=Backups(folder=path.parent / "backups", keep=3),
        clock=lambda: NOW_S,
    )


def test_a_full_disk_stops_acknowledgements_and_not_answers_until_there_is_room(
    broker: Mosquitto, tmp_path: Path, small_disk: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path, database=small_disk / "delen.db", log_max_size="8MB")

    with serving(settings) as service, client_of(settings) as client:
        push(client, POLICY)
        filler = fill(small_disk)
        replies = [client.infer("gate", npy()) for _ in range(20)]
        wait_until(lambda: not service.health().well)
        sentence = service.health().sentence
        unacknowledged = service.open_deliveries()
        filler.unlink()
        wait_until(lambda: service.open_deliveries() == 0)
        wait_until(lambda: service.health().well)

    assert all(isinstance(reply, Result) for reply in replies)
    assert "cannot be written" in sentence
    assert "full" in sentence
    assert unacknowledged > 0
    assert {reply.id for reply in logged(settings.database)} == {reply.id for reply in replies}


def test_damage_on_a_full_disk_is_waited_out_and_nothing_in_force_is_lost(small_disk: Path) -> None:
    gateway = Gateway()
    path = small_disk / "delen.db"

    with store_of(path, gateway) as store:
        store.save_policy("gate", 1, POLICY)
        filler = fill(small_disk)
        path.unlink()
        fill(small_disk).rename(small_disk / "more")
        store.log(RESULT, delivery=1, key=None)
        filler.unlink(missing_ok=True)
        (small_disk / "more").unlink(missing_ok=True)
        wait_until(lambda: store.mishap is not None and len(gateway.heard) == 1)
        store.save_policy("door", 1, POLICY)

    with Reader(path) as reader:
        assert [one.tenant for one in reader.policies()] == ["door", "gate"]


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("SELECT COUNT(*) FROM inferences").fetchone()
print("holds", flush=True)
sys.stdin.readline()
"""


@contextmanager
def another_process(path: Path, *, begins: str) -> Iterator[None]:
    """Another program holds a transaction open, and does not come to an end."""
    command = [sys.executable, "-c", HOLD, str(path), begins]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        try:
            yield
        finally:
            process.kill()


def test_while_another_process_writes_nothing_is_lost(
    tmp_path: Path,
) -> None:
    gateway = Gateway()
    path = tmp_path / "delen.db"

    with store_of(path, gateway) as store:
        with another_process(path, begins="BEGIN IMMEDIATE"):
            for number in range(100):
                store.log(result(number), delivery=number + 1, key=None)
            wait_until(lambda: store.failed is not None)
            heard = len(gateway.heard)
        gateway.wait_for(100)

    assert heard == 0
    assert len(logged(path)) == 100


def test_a_reader_that_never_ends_cannot_make_the_log_beside_the_file_grow_without_end(
    tmp_path: Path,
) -> None:
    gateway = Gateway()
    path = tmp_path / "delen.db"
    wal = path.with_name("delen.db-wal")

    with store_of(path, gateway, max_bytes=1_000_000) as store:
        with another_process(path, begins="BEGIN"):
            number = 0
            while store.failed is None:
                number += 1
                store.log(result(number), delivery=number, key=None)
                wait_until(lambda: store.failed is not None or len(gateway.heard) == number)  # noqa: B023
            largest, reason = wal.stat().st_size, store.failed
        gateway.wait_for(number)

    assert "another program has been reading" in reason
    assert largest < 2_000_000
    assert wal.exists() is False


def test_a_log_beside_the_file_that_has_grown_is_cut_at_a_calm_moment(tmp_path: Path) -> None:
    gateway = Gateway()
    path = tmp_path / "delen.db"
    wal = path.with_name("delen.db-wal")

    with store_of(path, gateway, max_bytes=4_000_000) as store:
        with another_process(path, begins="BEGIN"):
            while (grown := wal.stat().st_size) < 1_200_000:
                number = len(gateway.heard)
                store.log(result(number), delivery=1, key=None)
                gateway.wait_for(number + 1)
        store._writer._retention_due_s = 0.0  # noqa: SLF001 - not to wait for ten seconds
        wait_until(lambda: wal.stat().st_size < 100_000)

    assert grown > 1_000_000
