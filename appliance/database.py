"""The SQLite file: opened, brought up to the schema, and every refusal a sentence."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlite_utils import Database

from appliance import files
from appliance.errors import DatabaseDamaged, StoreError
from appliance.migrations import APPLICATION_ID, MIGRATIONS, known

PAGE_BYTES = 4096
CACHE_KIB = 512
NOT_WRITTEN = "Check that it and its folder may be written and that the disk is not full."
_BUSY_TIMEOUT_S = 1.0
_NOT_AS_IT_SHOULD_BE = (
    "Could not decode",
    "already exists",
    "duplicate column",
    "has no column",
    "no such column",
    "no such table",
    "unsupported file format",
)
_SMALL_TABLES = ("policies", "commands", "budgets", "energy_ledger")


def require_folder(path: Path) -> None:
    """Raises StoreError where there is no folder for a database."""
    if not path.parent.is_dir():
        raise StoreError(
            f"The folder {path.parent} of the database does not exist:"
            " create it, or set DELEN_DATABASE to another file."
        )


def open_for_writing(path: Path, *, wal_bytes: int) -> Database:
    """The database at `path`, made where there is none, with every migration applied.

    The write-ahead log beside it is kept to about `wal_bytes`. An existing database is copied
    before it is migrated, to `{path}.before-{migration}`. Raises StoreError.
    """
    require_folder(path)
    with sentences("opened", path):
        # Where it cannot be made, SQLite says why.
        with suppress(OSError):
            files.make_private(path)
        db = thrifty(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S))
        try:
            refuse_foreign(db, path)
            lay_out(db)
            _set_up(db, path, wal_bytes)
            _migrate(db, path)
        except BaseException:
            db.close()
            raise
    return db


def is_empty(path: Path) -> bool:
    """Whether a database has no table, as one whose write-ahead log was lost. Raises StoreError."""
    with (
        sentences("opened", path),
        closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection,
    ):
        count: int = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    return not count


def open_for_reading(path: Path) -> Database:
    """The database at `path`, read-only, while another thread or process may write to it.

    One thread at a time may use it. Raises StoreError.
    """
    if not path.is_file():
        raise StoreError(
            f"There is no database at {path}: start the appliance, which makes it,"
            " or name another file."
        )
    with sentences("opened", path):
        db = thrifty(
            sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro",
                uri=True,
                timeout=_BUSY_TIMEOUT_S,
                check_same_thread=False,
            )
        )
        try:
            refuse_foreign(db, path)
            _refuse_older(db, path)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def writing(db: Database) -> Iterator[None]:
    """A transaction that writes, or a part of the one that is open: all of it or nothing.

    It waits a moment for another program's to end. One that began by reading could not, and would
    be refused at once (https://sqlite.org/lang_transaction.html).
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    with db.conn:
        db.conn.execute("BEGIN IMMEDIATE")
        yield


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is damaged, as SQLite says, or holds not what it should.

    SQLITE_CORRUPT and SQLITE_NOTADB come as DatabaseError itself, and whatever else can go wrong
    as one of its children. Our statements fit our tables, unless these are not ours any more.
    """
    if isinstance(error, sqlite3.OperationalError):
        return any(words in str(error) for words in _NOT_AS_IT_SHOULD_BE)
    return type(error) is sqlite3.DatabaseError or isinstance(
        error, DatabaseDamaged | UnicodeDecodeError
    )


def check(db: Database, path: Path, *, limit_s: float) -> bool:
    """Looks for damage, in what is small first; whether it came to the end within the time.

    Raises DatabaseDamaged.
    """
    small = set(_SMALL_TABLES).intersection(db.table_names())
    if len(small) < len(_SMALL_TABLES) and not MIGRATIONS.pending(db):
        raise DatabaseDamaged(f"The database {path} is damaged: a table is missing.")
    alarm = threading.Timer(limit_s, db.conn.interrupt)
    alarm.name = "database-check"
    alarm.start()
    try:
        for table in sorted(small):
            _quick_check(db, path, f"PRAGMA quick_check({table})")
        _quick_check(db, path, "PRAGMA quick_check")
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return False
    finally:
        alarm.cancel()
        alarm.join()
    return True


def _quick_check(db: Database, path: Path, statement: str) -> None:
    with sentences("checked", path, but=sqlite3.OperationalError):
        found = db.execute(statement).fetchall()
    if found != [("ok",)]:
        raise DatabaseDamaged(f"The database {path} is damaged: {found[0][0]}.")


@contextmanager
def sentences(
    doing: str, path: Path, *, but: type[sqlite3.Error] | tuple[()] = ()
) -> Iterator[None]:
    """Turns an error of SQLite's into a StoreError that says what could not be done to `path`.

    DatabaseDamaged where the file is damaged; errors of the kind `but` are left as they are.
    """
    try:
        yield
    except but:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if is_damage(error):
            raise DatabaseDamaged(f"The database {path} is damaged: {error}.") from error
        raise StoreError(
            f"The database {path} cannot be {doing}: {error}. {_remedy(error, path)}"
        ) from error


def _remedy(error: Exception, path: Path) -> str:
    if "locked" in str(error):
        return f"Another program is writing to it: end that one (`fuser {path}`)."
    return NOT_WRITTEN


def thrifty(connection: sqlite3.Connection) -> Database:
    """A connection that holds few pages: it would come to SQLite's 2 MB, which the kernel caches,
    too.
    """
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return Database(connection, recursive_triggers=False, execute_plugins=False)


def refuse_foreign(db: Database, path: Path) -> None:
    """Refuses another program's database, and one that a newer version has migrated."""
    if not db.table_names():
        return
    names = known()
    applied = [step.name for step in MIGRATIONS.applied(db)]
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        if names.intersection(applied):
            raise DatabaseDamaged(f"The database {path} is damaged: its header is overwritten.")
        raise StoreError(
            f"The database {path} belongs to another program: set DELEN_DATABASE to another file."
        )
    unknown = [name for name in applied if name not in names]
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


def lay_out(db: Database) -> None:
    """Chooses what can be chosen only before the first table: large enough pages, and that those
    which retention frees go back to the disk.
    """
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")


def _set_up(db: Database, path: Path, wal_bytes: int) -> None:
    # Readers and the writer do not wait for each other, and a commit is one append.
    db.enable_wal()
    if db.journal_mode != "wal":
        raise StoreError(
            f"The database {path} lies on a file system without shared memory, such as NFS:"
            " set DELEN_DATABASE to a file on a local disk."
        )
    # A commit is on the disk when it returns, so that what is acknowledged outlasts a power cut.
    db.execute("PRAGMA synchronous = FULL")
    # The log is copied back when it has grown this far, and cut to it after a long reader.
    db.execute(f"PRAGMA wal_autocheckpoint = {max(1, wal_bytes // PAGE_BYTES)}")
    db.execute(f"PRAGMA journal_size_limit = {wal_bytes}").fetchall()


def _migrate(db: Database, path: Path) -> None:
    pending = MIGRATIONS.pending(db)
    if pending and db.table_names():
        _copy(db, _copy_before(pending[0].name, path))
    MIGRATIONS.apply(db)
    _require_schema(db, path)


def _require_schema(db: Database, path: Path) -> None:
    """Raises DatabaseDamaged where a table, a column or an index is missing."""
    with closing(Database(memory=True)) as right:
        MIGRATIONS.apply(right)
        missing = _names(right) - _names(db)
    if missing:
        raise DatabaseDamaged(f"The database {path} is damaged: {min(missing)} is missing.")


def _names(db: Database) -> set[str]:
    columns = db.execute(
        "SELECT m.name || '.' || c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c"
    ).fetchall()
    others = db.execute("SELECT name FROM sqlite_master").fetchall()
    return {name for (name,) in [*columns, *others]}


def _copy_before(migration: str, path: Path) -> Path:
    return path.with_name(f"{path.name}.before-{migration}")


def _copy(db: Database, target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.unfinished")
    with suppress(OSError):
        files.make_private(unfinished)
    with closing(sqlite3.connect(unfinished)) as copy:
        db.conn.backup(copy)
    unfinished.replace(target)
