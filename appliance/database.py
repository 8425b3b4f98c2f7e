"""The SQLite file: opened, brought up to the schema, and every refusal a sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database

from appliance.errors import StoreError
from appliance.migrations import APPLICATION_ID, MIGRATIONS, known

PAGE_BYTES = 4096
_BUSY_TIMEOUT_S = 1.0


def open_for_writing(path: Path, *, wal_bytes: int) -> Database:
    """The database at `path`, made where there is none, with every migration applied.

    The write-ahead log beside it is kept to about `wal_bytes`. An existing database is copied
    before it is migrated, to `{path}.before-{migration}`. Raises StoreError.
    """
    if not path.parent.is_dir():
        raise StoreError(
            f"The folder {path.parent} of the database does not exist:"
            " create it, or set DELEN_DATABASE to another file."
        )
    with _opening(path):
        db = _database(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S))
        try:
            _refuse_foreign(db, path)
            _set_up(db, path, wal_bytes)
            _migrate(db, path)
        except BaseException:
            db.close()
            raise
    return db


def open_for_reading(path: Path) -> Database:
    """The database at `path`, read-only, while another thread or process may write to it.

    One thread at a time may use it. Raises StoreError.
    """
    if not path.is_file():
        raise StoreError(
            f"There is no database at {path}: start the appliance, which makes it,"
            " or name another file."
        )
    with _opening(path):
        db = _database(
            sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro",
                uri=True,
                timeout=_BUSY_TIMEOUT_S,
                check_same_thread=False,
            )
        )
        try:
            _refuse_foreign(db, path)
            _refuse_older(db, path)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def sentences(doing: str, path: Path) -> Iterator[None]:
    """Turns an error of SQLite's into a StoreError that says what could not be done to `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"The database {path} cannot be {doing}: {error}."
            " Check that it and its folder may be written and that the disk is not full."
        ) from error


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    with sentences("opened", path):
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "not a database" not in str(error):
                raise
            raise StoreError(
                f"The file {path} is no SQLite database:"
                " move it away, or set DELEN_DATABASE to another file."
            ) from error


def _database(connection: sqlite3.Connection) -> Database:
    return Database(connection, recursive_triggers=False, execute_plugins=False)


def _refuse_foreign(db: Database, path: Path) -> None:
    """Refuses another program's database, and one that a newer version has migrated."""
    if not db.table_names():
        return
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(
            f"The database {path} belongs to another program: set DELEN_DATABASE to another file."
        )
    names = known()
    unknown = [step.name for step in MIGRATIONS.applied(db) if step.name not in names]
    if unknown:
        raise StoreError(
            f"The database {path} was migrated by a newer version ({', '.join(unknown)}):"
            f" install that version, or go back to the copy {_copy_before(unknown[0], path).name}."
        )


def _refuse_older(db: Database, path: Path) -> None:
    if MIGRATIONS.pending(db):
        raise StoreError(
            f"The database {path} is older than this program:"
            " start the appliance once, which brings it up to date."
        )


def _set_up(db: Database, path: Path, wal_bytes: int) -> None:
    # Two that can be chosen only before the first table. The pages that retention frees go
    # back to the disk.
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # Readers and the writer do not wait for each other, and a commit is one append.
    db.enable_wal()
    if db.journal_mode != "wal":
        raise StoreError(
            f"The database {path} lies on a file system without shared memory, such as NFS:"
            " set DELEN_DATABASE to a file on a local disk."
        )
    # A commit is safe from a crash of this program; the disk itself is asked at checkpoints, so
    # that a power cut may take the last moments of the log.
    db.execute("PRAGMA synchronous = NORMAL")
    # The log is copied back when it has grown this far, and cut to it after a long reader.
    db.execute(f"PRAGMA wal_autocheckpoint = {max(1, wal_bytes // PAGE_BYTES)}")
    db.execute(f"PRAGMA journal_size_limit = {wal_bytes}").fetchall()


def _migrate(db: Database, path: Path) -> None:
    pending = MIGRATIONS.pending(db)
    if pending and db.table_names():
        _copy(db, _copy_before(pending[0].name, path))
    MIGRATIONS.apply(db)


def _copy_before(migration: str, path: Path) -> Path:
    return path.with_name(f"{path.name}.before-{migration}")


def _copy(db: Database, target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.unfinished")
    with closing(sqlite3.connect(unfinished)) as copy:
        db.conn.backup(copy)
    unfinished.replace(target)
