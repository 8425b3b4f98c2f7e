"""Backups of the database: taken while it is written to, and looked at before they are trusted."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database
from typing_extensions import Self

from appliance import files
from appliance.database import (
    CACHE_KIB,
    check,
    lay_out,
    open_for_reading,
    refuse_foreign,
    sentences,
    thrifty,
)
from appliance.errors import DatabaseDamaged, StoreError
from appliance.migrations import MIGRATIONS
from appliance.settings import Settings

TAKES_AT_MOST_S = 600.0
"""How long a backup may hold back the emptying of the write-ahead log."""

WITH_LOG = "-with-log"
_SMALL_TABLES = ("policies", "commands", "budgets", "energy_ledger")
_STEP_PAGES = 256
_BREATH_S = 0.005
"""Between two steps, so that what the appliance has to write comes in between."""
_DIGITS = 6
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Backups:
    """The folder of the backups; those with higher numbers are newer, whatever the clock said."""

    folder: Path
    keep: int
    """How many of those without the log stay."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings describe."""
        return cls(folder=settings.backup_folder, keep=settings.backup_keep)

    def newest_first(self) -> list[Path]:
        """All that are there."""
        found = (path for path in self.folder.glob("*.db") if path.name[:_DIGITS].isdigit())
        return sorted(found, reverse=True)

    def next(self, *, with_log: bool) -> Path:
        """The name of the next one; its folder is made where it is missing. Raises StoreError."""
        with _on_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(path.name[:_DIGITS]) for path in self.newest_first()]
        number = max(numbers, default=0) + 1
        return self.folder / f"{number:0{_DIGITS}}{WITH_LOG * with_log}.db"

    def prune(self) -> None:
        """Removes the oldest of those without the log. Raises StoreError."""
        small = [path for path in self.newest_first() if WITH_LOG not in path.name]
        with _on_disk(self.folder):
            for path in small[self.keep :]:
                path.unlink(missing_ok=True)


def take(database: Path, target: Path, *, with_log: bool) -> None:
    """Writes a backup of a database to a file, whole and checked or not at all.

    An earlier backup of that name is replaced. Raises StoreError.
    """
    with closing(open_for_reading(database)) as source:
        _refuse_to_overwrite(database, target)
        with _written(target) as unfinished:
            if with_log:
                _copy_all(source.conn, unfinished, database)
            else:
                _copy_what_is_small(database, unfinished)
            verify(unfinished)


def verify(path: Path) -> int:
    """Looks through a whole backup; how many policies are in force in it.

    Raises StoreError where it is damaged, another program's or a newer version's.
    """
    if not path.is_file():
        raise StoreError(f"There is no backup at {path}: name a file that `delen backup` wrote.")
    # One without a write-ahead log can be read where nothing can be written.
    access = "mode=ro" if files.beside(path, "-wal").exists() else "immutable=1"
    uri = f"{path.resolve().as_uri()}?{access}"
    with sentences("read", path), closing(sqlite3.connect(uri, uri=True)) as connection:
        db = thrifty(connection)
        refuse_foreign(db, path)
        if "inferences" not in db.table_names():
            raise DatabaseDamaged(f"The file {path} holds no database of this program's.")
        if access == "immutable=1":
            _refuse_cut_off(db, path)
        check(db, path, limit_s=TAKES_AT_MOST_S)
        if "policies" not in db.table_names():
            return 0
        statement = "SELECT COUNT(*) FROM policies WHERE replaced_s IS NULL AND removed_s IS NULL"
        return int(db.execute(statement).fetchone()[0])


def _refuse_cut_off(db: Database, path: Path) -> None:
    """SQLite reads a last page that is cut off as one that ends in zeros."""
    (pages,), (page_bytes,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    missing = pages * page_bytes - path.stat().st_size
    if missing > 0:
        raise DatabaseDamaged(f"The database {path} is damaged: its last {missing} bytes are gone.")


def copy(backup: Path, target: Path) -> None:
    """Puts a copy of a backup, brought up to this version, at `target`. Raises StoreError."""
    verify(backup)
    with _written(target) as unfinished, sentences("copied", backup):
        access = "mode=ro" if files.beside(backup, "-wal").exists() else "immutable=1"
        uri = f"{backup.resolve().as_uri()}?{access}"
        with closing(sqlite3.connect(uri, uri=True)) as source:
            _into(source, unfinished)
        with closing(Database(sqlite3.connect(unfinished), execute_plugins=False)) as db:
            MIGRATIONS.apply(db)


def _copy_all(source: sqlite3.Connection, target: Path, database: Path) -> None:
    ends_s = time.monotonic() + TAKES_AT_MOST_S

    def breathe(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > ends_s:
            raise StoreError(
                f"The backup of {database} took longer than {TAKES_AT_MOST_S:.0f} s and is given"
                " up: name a file on a faster disk."
            )
        time.sleep(_BREATH_S)

    with sentences("backed up", database):
        # One transaction throughout: without it every commit would begin the copy anew.
        source.execute("BEGIN")
        source.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        _into(source, target, breathe)


def _into(
    source: sqlite3.Connection,
    target: Path,
    progress: object = None,
) -> None:
    with closing(sqlite3.connect(target)) as copied:
        source.backup(copied, pages=_STEP_PAGES, progress=progress)  # type: ignore[arg-type]
        # A file by itself, which needs nothing beside it.
        copied.execute("PRAGMA journal_mode = DELETE").fetchall()


def _copy_what_is_small(database: Path, target: Path) -> None:
    """Leaves it to the kernel to gather pages, so that the disk writes each of them once."""
    with sentences("read", database), closing(sqlite3.connect(target, uri=True)) as connection:
        db = thrifty(connection)
        # What does not come to its end is thrown away, and what does is on the disk by `files.put`.
        db.execute("PRAGMA journal_mode = OFF").fetchall()
        db.execute("PRAGMA synchronous = OFF")
        lay_out(db)
        MIGRATIONS.apply(db)
        db.execute("ATTACH ? AS source", [f"{database.resolve().as_uri()}?mode=ro"])
        db.execute(f"PRAGMA source.cache_size = -{CACHE_KIB}")
        with db.atomic():
            for table in _SMALL_TABLES:
                db.execute(f"INSERT INTO main.{table} SELECT * FROM source.{table}")  # noqa: S608 - the names are ours, values are bound


def _refuse_to_overwrite(database: Path, target: Path) -> None:
    if target.is_dir():
        raise StoreError(f"{target} is a folder: name a file in it.")
    if not target.exists():
        return
    if not target.is_file():
        raise StoreError(f"{target} is no file that could be replaced: name another file.")
    if target.samefile(database):
        raise StoreError(f"{target} is the database itself: name another file.")
    try:
        verify(target)
    except StoreError as error:
        with _on_disk(target), target.open("rb") as file:
            damaged = isinstance(error, DatabaseDamaged) and file.read(len(_MAGIC)) == _MAGIC
        if not damaged:
            raise StoreError(f"{target} is no backup of ours: name another file.") from error


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    """A file to write that takes the place of `target` once it is whole, and goes otherwise."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    with _on_disk(target):
        files.remove(unfinished)
        files.make_private(unfinished)
        try:
            yield unfinished
            files.put(unfinished, target)
        finally:
            files.remove(unfinished)
            files.beside(unfinished, "-journal").unlink(missing_ok=True)


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error}. Check that there is room and that it is allowed."
        ) from error
