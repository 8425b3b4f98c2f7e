"""The database's file: of an older version, a newer one, another program's, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database

from appliance.errors import StoreError
from appliance.migrations import MIGRATIONS
from appliance.reader import Reader
from tests.stores import NOW_S, RESULT, log_all, logged, opened


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
