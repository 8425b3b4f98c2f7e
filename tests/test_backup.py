"""Backups: taken, restored, and taken by themselves, while the appliance runs."""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import typer
from sqlite_utils import Database
from typer.testing import CliRunner
from typer.testing import Result as Outcome

from appliance import backups
from appliance.backups import Backups
from appliance.broker import Mosquitto
from appliance.cli import backup
from appliance.errors import StoreError
from appliance.messages import Result
from appliance.migrations import MIGRATIONS
from appliance.reader import Reader
from appliance.restoring import restore
from appliance.store import Store
from tests.appliances import Watch, client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.stores import RESULT, Gateway, log_all, logged, opened, result
from tests.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "delen.db"


def delen(*arguments: str, database: Path) -> Outcome:
    app = typer.Typer()
    backup.register(app)
    return CliRunner().invoke(app, [*arguments, "--database", str(database)])


def versions(path: Path) -> list[tuple[str, int]]:
    with Reader(path) as reader:
        return [(one.tenant, one.version) for one in reader.policies()]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_the_database_holds_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0o022)
    try:
        with opened(path) as store:
            store.log(result(1), delivery=1, key=None)
            backups.take(path, path.parent / "backup.db", with_log=True)
            restore(path.parent / "backup.db", path)

            modes = {file.name: file.stat().st_mode & 0o077 for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert {"delen.db", "delen.db.lock", "backup.db"} <= modes.keys()
    assert set(modes.values()) == {0}


@contextmanager
def busy(store: Store) -> Iterator[None]:
    """Records come in all the time."""
    done = threading.Event()

    def log() -> None:
        number = 10_000
        while not done.is_set():
            number += 1
            store.log(result(number), delivery=number, key=None)
            time.sleep(0.001)

    thread = threading.Thread(target=log)
    thread.start()
    yield
    done.set()
    thread.join()


def test_a_backup_holds_what_was_committed_and_nothing_lies_beside_it(path: Path) -> None:
    target = path.parent / "kept" / "copy.db"
    target.parent.mkdir()
    with opened(path) as store:
        store.save_policy("gate", 3, "three")
        store.log(RESULT, delivery=0, key=None)
        store.save_policy("gate", 4, "four")
        backups.take(path, target, with_log=True)
        store.save_policy("gate", 5, "five")

    assert versions(target) == [("gate", 4)]
    assert logged(target) == [RESULT]
    assert names(target.parent) == {"copy.db"}


def test_a_backup_without_the_log_holds_all_else(path: Path) -> None:
    target = path.parent / "copy.db"
    with opened(path) as store:
        store.save_policy("gate", 3, "three")
        store.save_command("device_budget", "2kJ per 1h")
        store.log(RESULT, delivery=0, key=None)
        store.save_policy("gate", 4, "four")
        backups.take(path, target, with_log=False)

    assert versions(target) == [("gate", 4)]
    with Reader(target) as reader:
        assert reader.command("device_budget") == "2kJ per 1h"
        assert len(reader.history("gate")) == 2
        assert [row.account for row in reader.ledger(period_s=3600)] == ["gate"]
    assert logged(target) == []


def highest_bytes(*, reset: bool) -> int:
    """The most that SQLite had at a time since this was last reset."""
    try:
        library = ctypes.CDLL(sys.modules["_sqlite3"].__file__)
        highest = library.sqlite3_memory_highwater
    except (AttributeError, TypeError, OSError):
        pytest.skip("this Python's SQLite cannot be asked")
    highest.restype = ctypes.c_int64
    return int(highest(int(reset)))


def test_a_backup_takes_no_more_memory_where_more_is_kept(path: Path) -> None:
    with opened(path) as store:
        for version in range(1, 21):
            store.save_policy("gate", version, "x" * 300_000)
        highest_bytes(reset=True)
        before_bytes = highest_bytes(reset=False)
        assert before_bytes > 0

        backups.take(path, path.parent / "backup.db", with_log=False)

        taken_bytes = highest_bytes(reset=False) - before_bytes
    assert (path.parent / "backup.db").stat().st_size > 6_000_000
    assert taken_bytes < 3_000_000


def test_a_backup_under_load_is_whole_and_holds_up_no_record(path: Path) -> None:
    log_all(path, *(result(number) for number in range(5000)))
    gateway = Gateway()

    with opened(path, gateway) as store, busy(store):
        gateway.wait_for(10)
        during = 0
        while during == 0:  # it may be over before there is another record
            before = len(gateway.heard)
            backups.take(path, path.parent / "copy.db", with_log=True)
            during = len(gateway.heard) - before

    assert len(logged(path.parent / "copy.db")) >= 5000 + before
    with closing(sqlite3.connect(path.parent / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_backup_that_cannot_be_finished_leaves_the_one_before(path: Path) -> None:
    target = path.parent / "copy.db"
    log_all(path, *(result(number) for number in range(3000)))
    backups.take(path, target, with_log=False)
    before = target.read_bytes()
    script = """
import resource, signal, sys
from pathlib import Path
from appliance import backups
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
backups.take(Path(sys.argv[1]), Path(sys.argv[2]), with_log=True)
"""

    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "StoreError" in done.stderr
    assert target.read_bytes() == before
    assert {name for name in names(path.parent) if "copy" in name} == {"copy.db"}


@pytest.mark.parametrize("place", ["delen.db", "letter.txt", ".", "pipe"])
def test_a_backup_overwrites_nothing_but_a_backup(path: Path, place: str) -> None:
    log_all(path, RESULT)
    os.mkfifo(path.parent / "pipe")
    (path.parent / "letter.txt").write_text("dear " * 1000)

    with pytest.raises(StoreError, match="name a"):
        backups.take(path, path.parent / place, with_log=True)

    assert (path.parent / "letter.txt").read_text() == "dear " * 1000
    assert logged(path) == [RESULT]


def test_without_a_database_there_is_nothing_to_back_up(path: Path) -> None:
    earlier = path.parent / "earlier.db"
    earlier.write_bytes(b"of another day")

    with pytest.raises(StoreError, match="There is no database at"):
        backups.take(path, earlier, with_log=True)

    assert earlier.read_bytes() == b"of another day"


def test_the_commands_say_what_they_did_in_json(path: Path) -> None:
    target = path.parent / "copy.db"
    with opened(path) as store:
        store.save_policy("gate", 3, "three")

    taken = json.loads(delen("backup", str(target), "--json", database=path).stdout)
    restored = json.loads(delen("restore", str(target), "--json", database=path).stdout)

    size = target.stat().st_size
    assert taken == {"file": str(target), "bytes": size, "policies": 1}
    assert restored == {
        "backup": str(target),
        "database": str(path),
        "policies": 1,
        "by_running_appliance": False,
    }


def test_without_a_name_a_backup_takes_the_next_number(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_all(path, RESULT)
    monkeypatch.setenv("DELEN_BACKUP", str(path.parent / "kept"))

    first, second = (delen("backup", database=path) for _ in range(2))

    assert [Path(one.stdout.strip()).name for one in (first, second)] == [
        "000001-with-log.db",
        "000002-with-log.db",
    ]


def test_where_no_appliance_runs_a_restore_is_done_at_once_and_the_old_file_kept(
    path: Path,
) -> None:
    with opened(path) as store:
        store.save_policy("gate", 3, "three")
    backups.take(path, path.parent / "copy.db", with_log=True)
    with opened(path) as store:
        store.save_policy("gate", 4, "four")

    restore(path.parent / "copy.db", path)

    (replaced,) = path.parent.glob("delen.db.replaced-*[0-9]")
    assert versions(path) == [("gate", 3)]
    assert versions(replaced) == [("gate", 4)]
    assert not any(path.parent.glob("delen.db.*tak*"))


def test_a_backup_of_an_older_version_is_restored_and_migrated(path: Path) -> None:
    log_all(path, RESULT)
    with Database(path.parent / "old.db") as old:
        MIGRATIONS.apply(old, stop_before="create_policies")

    restore(path.parent / "old.db", path)

    assert versions(path) == []
    with Database(path.parent / "old.db") as old:
        assert MIGRATIONS.pending(old)


def _newer(path: Path, target: Path) -> None:
    backups.take(path, target, with_log=True)
    with Database(target) as newer:
        newer.table("_sqlite_migrations").insert(
            {"migration_set": "delen", "name": "add_moods", "applied_at": "2030-01-01"}
        )


def _damaged(path: Path, target: Path) -> None:
    backups.take(path, target, with_log=True)
    with target.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(40_000))


def _cut_off(path: Path, target: Path) -> None:
    """As it is where a copy ended too early, in its last page."""
    backups.take(path, target, with_log=True)
    os.truncate(target, target.stat().st_size - 1)


def _foreign(_path: Path, target: Path) -> None:
    with Database(target) as foreign:
        foreign.table("photos").insert({"id": 1})


def _text(_path: Path, target: Path) -> None:
    target.write_text("dear " * 1000)


def _empty(_path: Path, target: Path) -> None:
    target.touch()


def _missing(_path: Path, _target: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_newer, "newer version"),
        (_damaged, "damaged"),
        (_cut_off, "its last 1 bytes are gone"),
        (_foreign, "another program"),
        (_text, "damaged"),
        (_empty, "no database of this program's"),
        (_missing, "There is no backup"),
    ],
)
def test_what_cannot_be_restored_is_refused_and_nothing_changes(
    path: Path, make: object, reason: str
) -> None:
    log_all(path, *(result(number) for number in range(200)))
    target = path.parent / "copy.db"
    assert callable(make)
    make(path, target)
    before, files_before = path.read_bytes(), names(path.parent)

    with pytest.raises(StoreError, match=reason):
        restore(target, path)

    assert path.read_bytes() == before
    assert names(path.parent) == files_before


def test_a_running_store_takes_a_backup_up_without_losing_a_record(path: Path) -> None:
    gateway = Gateway()
    with opened(path, gateway) as store:
        store.save_policy("gate", 3, "three")
        backups.take(path, path.parent / "copy.db", with_log=True)
        store.save_policy("gate", 4, "four")

        with busy(store):
            gateway.wait_for(20)
            restored = restore(path.parent / "copy.db", path)
            heard = len(gateway.heard)
            gateway.wait_for(heard + 20)

    (replaced,) = path.parent.glob("delen.db.replaced-*[0-9]")
    rows = [reply.id for reply in (*logged(replaced), *logged(path))]
    assert restored.by_running_appliance
    assert versions(path) == [("gate", 3)]
    assert sorted(rows) == sorted(reply.id for _, _, reply in gateway.heard)


def test_a_second_appliance_on_the_same_database_is_refused(path: Path) -> None:
    with (
        opened(path),
        pytest.raises(StoreError, match="in use by another appliance"),
        opened(path),
    ):
        pass


def test_restoring_brings_the_policies_of_the_backup_in_force_while_it_serves(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)
    copy = tmp_path / "copy.db"

    with serving(settings) as service, client_of(settings) as client:
        push(client, POLICY)
        backups.take(settings.database, copy, with_log=True)
        push(client, POLICY.replace("version: 1", "version: 2"))
        push(client, POLICY.replace("gate", "door"), tenant="door")
        states = Watch(client, client.topics.policy_state("+", settings.appliance_id))
        states.next()
        states.next()
        assert isinstance(client.infer("door", npy()), Result)

        restore(copy, settings.database)
        told = dict([states.next(), states.next()])
        after = client.infer("gate", npy())
        gone = client.infer("door", npy())
        wait_until(lambda: service.open_deliveries() == 0)

    assert isinstance(after, Result)
    assert after.policy_version == 1
    assert gone.status == "rejected"
    assert told[client.topics.policy_state("door", settings.appliance_id)] == b""


def test_what_is_in_force_is_backed_up_by_itself_and_few_are_kept(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path, backup_keep=2, backup=tmp_path / "kept")
    folder = Backups(folder=tmp_path / "kept", keep=2)

    for version in range(1, 5):
        for old in folder.newest_first():
            os.utime(old, (0, 0))  # as if it had been taken long ago
        with serving(settings), client_of(settings) as client:
            push(client, POLICY.replace("version: 1", f"version: {version}"))

    newest = folder.newest_first()
    assert len(newest) == 2
    assert versions(newest[0]) == [("gate", 4)]
    assert versions(newest[1])[0][1] < 4
