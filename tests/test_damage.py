"""A damaged database is set aside, and service goes on with what is known of it."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from appliance import backups
from appliance.backups import Backups
from appliance.broker import Mosquitto
from appliance.database_file import KEPT_DAMAGED
from appliance.errors import StoreError
from appliance.messages import Result
from appliance.reader import Reader
from appliance.store import Store
from tests.appliances import ApplianceProcess, Watch, client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.stores import KEY, NOW_S, RESULT, Gateway, log_all, logged, opened, result
from tests.waiting import wait_until

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "delen.db"


def store_of(path: Path, gateway: Gateway | None = None) -> Store:
    return Store(
        path,
        max_age_s=1e9,
        max_bytes=10**8,
        on_logged=(gateway or Gateway()).logged,
        backups=Backups(folder=path.parent / "backups", keep=3),
        clock=lambda: NOW_S,
    )


def filled(path: Path) -> None:
    """A database with a policy, a command and some thousand rows, and a backup of it."""
    with store_of(path) as store:
        store.save_policy("gate", 3, "tenant: gate\n")
        store.save_command("device_budget", "2kJ per 1h")
        for number in range(600):
            store.log(result(number), delivery=0, key=None)
    folder = Backups(folder=path.parent / "backups", keep=3)
    backups.take(path, folder.next(with_log=False), with_log=False)


def overwritten(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(os.urandom(length))


def damaged_files(path: Path) -> list[Path]:
    found = path.parent.glob(f"{path.name}.damaged-*")
    return [file for file in found if not file.name.endswith(("-wal", "-shm"))]


def checkpointed(path: Path) -> None:
    """Has all pages lie in the file itself, where they can be damaged."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def no_header(path: Path) -> None:
    overwritten(path, 0, 100)


def another_application(path: Path) -> None:
    overwritten(path, 68, 4)


def first_page(path: Path) -> None:
    overwritten(path, 0, PAGE)


def schema(path: Path) -> None:
    overwritten(path, 100, PAGE - 100)


def tables_and_indexes(path: Path) -> None:
    overwritten(path, PAGE, 20 * PAGE)


def middle(path: Path) -> None:
    overwritten(path, path.stat().st_size // 2 // PAGE * PAGE, 30 * PAGE)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def cut_within_a_page(path: Path) -> None:
    os.truncate(path, 1000)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def text(path: Path) -> None:
    path.write_text("garbage\n" * 1000)


DAMAGES = [
    no_header,
    another_application,
    first_page,
    schema,
    tables_and_indexes,
    middle,
    cut_short,
    cut_within_a_page,
    emptied,
    text,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_found_damaged_at_the_start_is_set_aside_and_the_backup_takes_its_place(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    damage(path)
    damaged = path.read_bytes()

    with store_of(path) as store:
        store.log(RESULT, delivery=1, key=None)

        with Reader(path) as reader:
            assert [(one.tenant, one.version) for one in reader.policies()] == [("gate", 3)]
            assert reader.command("device_budget") == "2kJ per 1h"
    (aside,) = damaged_files(path)
    assert aside.name == "delen.db.damaged-20260921T141320"
    assert aside.stat().st_size == len(damaged)
    assert logged(path) == [RESULT]
    assert store.mishap is not None
    assert aside.name in store.mishap
    assert "000001.db" in store.mishap
    assert store.mishap in caplog.text


@pytest.mark.parametrize("damage", [no_header, schema, tables_and_indexes, middle, cut_short])
def test_damage_that_comes_while_it_runs_loses_no_record_and_no_policy(
    path: Path, damage: Callable[[Path], None]
) -> None:
    gateway = Gateway()
    filled(path)

    with store_of(path, gateway) as store:
        store.save_policy("gate", 4, "tenant: gate\nversion: 4\n")
        store.save_policy("door", 1, "tenant: door\n")
        store.remove_policy("door")
        checkpointed(path)
        damage(path)
        store.suspect("somebody met damage")
        for number in range(100):
            store.log(result(5000 + number), delivery=1, key=None)
        gateway.wait_for(100)
        wait_until(lambda: store.mishap is not None)

        with Reader(path) as reader:
            assert [(one.tenant, one.version) for one in reader.policies()] == [("gate", 4)]
    # Whatever was committed before the damage was met lies in the file that was set aside.
    assert damaged_files(path)
    assert store.failed is None


def test_a_damaged_log_beside_the_file_keeps_what_was_committed_before(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as reader, store_of(path) as store:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM inferences").fetchone()
        store.log(RESULT, delivery=1, key=None)
        store.save_policy("gate", 4, "four")
        wal = path.with_name("delen.db-wal").read_bytes()
        main = path.read_bytes()
    path.write_bytes(main)
    path.with_name("delen.db-wal").write_bytes(wal[: len(wal) // 2] + os.urandom(len(wal) // 2))

    with store_of(path), Reader(path) as again:
        assert [one.tenant for one in again.policies()] == ["gate"]


def test_a_file_that_was_removed_while_it_runs_is_made_anew_with_what_was_in_force(
    path: Path,
) -> None:
    with store_of(path) as store:
        store.save_policy("gate", 3, "tenant: gate\n")
        path.unlink()
        wait_until(lambda: store.mishap is not None)
        store.log(RESULT, delivery=1, key=None)

        with Reader(path) as reader:
            assert [one.version for one in reader.policies()] == [3]
    assert logged(path) == [RESULT]


def test_a_reader_follows_to_the_new_file(path: Path) -> None:
    filled(path)

    with store_of(path) as store, Reader(path) as reader:
        assert reader.find(KEY) is None
        checkpointed(path)
        no_header(path)
        store.suspect("somebody met damage")
        wait_until(lambda: store.mishap is not None)
        store.save_policy("door", 1, "tenant: door\n")

        assert [one.tenant for one in reader.policies()] == ["door", "gate"]


def test_a_reader_follows_to_a_file_that_comes_after_none(path: Path) -> None:
    log_all(path, RESULT)
    away = path.with_name("away.db")

    with Reader(path) as reader:
        path.replace(away)
        with pytest.raises(StoreError, match="no database"):
            reader.find(KEY)
        # The number of a file that is gone may be given to the next one: here it is.
        away.replace(path)

        assert list(reader.inferences()) == [RESULT]


def test_a_damaged_backup_is_passed_by_for_the_one_before(path: Path) -> None:
    filled(path)
    backups.take(path, path.parent / "backups" / "000002.db", with_log=False)
    overwritten(path.parent / "backups" / "000002.db", 0, 5000)
    no_header(path)

    with store_of(path) as store:
        assert store.mishap is not None
        assert "000001.db" in store.mishap


def test_without_a_backup_a_damaged_file_is_followed_by_an_empty_one(path: Path) -> None:
    log_all(path, RESULT)
    no_header(path)

    with opened(path) as store:
        assert store.mishap is not None
        assert "no backup" in store.mishap
    assert logged(path) == []


def test_a_power_cut_between_the_old_file_and_the_new_loses_no_policy(path: Path) -> None:
    filled(path)
    no_header(path)
    backups.copy(path.parent / "backups" / "000001.db", path.with_name("delen.db.taking"))
    path.rename(path.with_name("delen.db.damaged-20260921T141320"))

    with store_of(path), Reader(path) as reader:
        assert [(one.tenant, one.version) for one in reader.policies()] == [("gate", 3)]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_overwritten_every_record_is_logged_and_the_policy_is_there(
    path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    gateway = Gateway()
    filled(path)
    size = path.stat().st_size
    at = chance.choice([chance.randrange(PAGE), chance.randrange(size)])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(chance.randbytes(chance.choice([1, 100, PAGE])))

    with store_of(path, gateway) as store:
        for number in range(30):
            store.log(result(5000 + number), delivery=number + 1, key=None)
        gateway.wait_for(30)
        store.save_policy("door", 1, "tenant: door\n")

        with Reader(path) as reader:
            assert [one.tenant for one in reader.policies()] == ["door", "gate"]


def test_damaged_files_do_not_accumulate(path: Path) -> None:
    for _ in range(KEPT_DAMAGED + 2):
        log_all(path, RESULT)
        no_header(path)
        with opened(path):
            pass

    assert len(damaged_files(path)) == KEPT_DAMAGED


def test_a_sound_database_of_another_program_is_never_set_aside(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE photos (id INTEGER)")

    with pytest.raises(StoreError, match="belongs to another program"):
        log_all(path)

    assert list(path.parent.glob("*damaged*")) == []


def test_after_damage_the_appliance_serves_by_the_backup_and_newer_retained_pushes_win(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path, backup_keep=2)
    newer = POLICY.replace("version: 1", "version: 2")
    with serving(settings), client_of(settings) as client:
        push(client, POLICY)
        push(client, POLICY.replace("gate", "door"), tenant="door")
    no_header(tmp_path / "delen.db")

    with client_of(settings) as client:
        client.publish(client.topics.policy_set("gate"), newer.encode(), retain=True)
        with serving(settings):
            telemetry = client.topics.appliance_telemetry(settings.appliance_id)
            watch = Watch(client, telemetry)
            wait_until(lambda: client.infer("gate", npy()).policy_version == 2)
            by_backup = client.infer("door", npy()).policy_version
        client.publish(client.topics.policy_set("gate"), b"", retain=True)

    assert by_backup == 1
    assert watch.is_silent()


def test_damage_under_a_serving_appliance_is_told_in_telemetry_and_requests_go_on(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)

    with serving(settings) as service, client_of(settings) as client:
        push(client, POLICY)
        first = client.infer("gate", npy())
        watch = Watch(client, client.topics.appliance_telemetry(settings.appliance_id))
        wait_until(lambda: service.open_deliveries() == 0)
        checkpointed(settings.database)
        overwritten(settings.database, 0, 20 * PAGE)
        second = client.infer("gate", npy())
        wait_until(lambda: service.open_deliveries() == 0)
        wait_until(lambda: any(tmp_path.glob("delen.db.damaged-*")))
        service.tell()
        _, payload = watch.next()

    assert b"is set aside as delen.db.damaged-" in payload
    assert (first.status, second.status) == ("ok", "ok")


def test_after_a_kill_a_truncated_file_is_replaced_and_requests_are_answered(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)
    with ApplianceProcess(settings) as appliance, client_of(settings) as client:
        appliance.start()
        push(client, POLICY)
        backups.take(settings.database, tmp_path / "delen.db.backups/000009.db", with_log=False)
        appliance.kill()
        os.truncate(tmp_path / "delen.db", PAGE + 10)
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"delen.db{suffix}").unlink(missing_ok=True)

        appliance.start()
        reply = client.infer("gate", npy())

        assert appliance.terminate() == 0
    assert isinstance(reply, Result), reply
