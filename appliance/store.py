"""What must outlast a restart: the inference log, the policies and the energy, in SQLite."""

from __future__ import annotations

import hashlib
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from sqlite_utils import Database
from typing_extensions import Self

from appliance import ledger, records
from appliance.database import PAGE_BYTES, open_for_writing, sentences
from appliance.errors import StoreError
from appliance.ledger import Accounts, Reported
from appliance.messages import Reply, RequestKey
from appliance.reader import IN_FORCE, StoredPolicy

_log = logging.getLogger(__name__)

UNACKNOWLEDGED_RECORDS = 10_000
"""How many records may wait to be written before those that nobody waits for are turned away."""

_BATCH = 500
_GATHER_S = 0.005
"""How long a record waits for others to be committed with: a request's own way is not held up by
its row, and flash is written to less often."""
_RETENTION_ROWS = 500
_RETENTION_EVERY_S = 10.0
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0
_CHANGE_TIMEOUT_S = 10.0
_WAL_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    reply: Reply
    delivery: int
    key: RequestKey | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """Something else to do in the writer's thread, for a caller who waits until it is durable."""

    make: Callable[[Database], Any]
    done: Future[Any]


class Store:
    """Writes to the database, in a thread of its own.

    Records that have gathered are committed together, and only then is `on_logged` called with
    each of them, in the writer's thread: with its delivery, its key and its reply. Rows that
    arrived more than `max_age_s` ago are deleted, and the oldest ones where the file and its
    write-ahead log would outgrow `max_bytes`; policies are kept. `clock` gives seconds since the
    epoch.

    Entering it raises StoreError where the database cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_age_s: float,
        max_bytes: int,
        on_logged: Callable[[int, RequestKey | None, Reply], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._max_age_s = max_age_s
        self._wal_bytes = min(_WAL_BYTES, max_bytes // 4)
        self._max_file_bytes = max_bytes - self._wal_bytes
        self._on_logged = on_logged
        self._clock = clock
        self._queue: SimpleQueue[_Record | Accounts | _Change | None] = SimpleQueue()
        self._opened: Future[None] = Future()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store")
        self._retention_due_s = 0.0
        self._failure: str | None = None
        self._turned_away = 0
        self._turned_away_said = 0
        self._turned_away_lock = threading.Lock()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Writes what was handed in and ends the thread; StoreError where that was not possible."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None:
            raise StoreError(self._failure)

    @property
    def failed(self) -> str | None:
        """What keeps the log from being written, as a sentence; None while all is well."""
        return self._failure

    @property
    def turned_away(self) -> int:
        """How many records were lost because the disk did not keep up."""
        return self._turned_away

    def log(self, reply: Reply, *, delivery: int, key: RequestKey | None) -> bool:
        """Hands a record to the writer, without waiting for it or for the disk; whether it could.

        A record that a delivery waits for (`delivery` is not 0) always finds room: the broker has
        no more of them outstanding than the appliance's Receive Maximum, and none is acknowledged
        before it is committed. The others could come without end, and are turned away while too
        many wait: False is returned, and `on_logged` is never called with them.
        """
        if not delivery and self._queue.qsize() >= UNACKNOWLEDGED_RECORDS:
            with self._turned_away_lock:
                self._turned_away += 1
            return False
        self._queue.put(_Record(reply=reply, delivery=delivery, key=key))
        return True

    def keep(self, accounts: Accounts) -> None:
        """Hands charges and budgets to the writer, which commits them with the next records."""
        self._queue.put(accounts)

    def save_command(self, name: str, value: str | None) -> None:
        """Keeps what a fleet manager said, or forgets it; durable when it returns.

        Raises StoreError.
        """
        self._change(partial(_save_command, name=name, value=value))

    def save_policy(self, tenant: str, version: int, source: str) -> None:
        """Puts a policy in force in place of the tenant's last one; durable when it returns.

        The one that is in force already is left alone. Raises StoreError.
        """
        policy = StoredPolicy(
            tenant=tenant,
            version=version,
            source=source,
            digest=hashlib.sha256(source.encode()).hexdigest(),
            accepted_s=self._clock(),
            replaced_s=None,
            removed_s=None,
        )
        self._change(partial(_save_policy, policy=policy))

    def remove_policy(self, tenant: str) -> None:
        """Takes a tenant's policy out of force; durable when it returns. Raises StoreError."""
        self._change(partial(_remove_policy, tenant=tenant, now_s=self._clock()))

    def apply_retention(self) -> None:
        """Deletes what is too old or too much now, not at the next quiet moment."""
        while self._change(self._retain):
            pass

    def _change(self, make: Callable[[Database], Any]) -> Any:
        if self._closing.is_set():
            raise StoreError("The store is closed: it takes no change any more.")
        change = _Change(make=make, done=Future())
        self._queue.put(change)
        try:
            return change.done.result(timeout=_CHANGE_TIMEOUT_S)
        except FutureTimeoutError as error:
            change.done.cancel()
            raise StoreError(
                f"The database {self._path} took no change for {_CHANGE_TIMEOUT_S:.0f} s."
                f" {self._failure or 'Its disk is slow: try again.'}"
            ) from error

    # From here on, everything runs in the writer's thread.

    def _run(self) -> None:
        try:
            db = open_for_writing(self._path, wal_bytes=self._wal_bytes)
        except BaseException as error:  # noqa: BLE001 - it is raised where the thread was started
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            self._write(db)
        except StoreError as error:
            self._failure = str(error)
        except Exception as error:  # noqa: BLE001 - it is logged, and shows in `failed`
            _log.exception("the store's writer has ended")
            self._failure = f"The store's writer has ended: {error!r}. Start the appliance again."
        finally:
            db.close()
            self._abandon()

    def _write(self, db: Database) -> None:
        while True:
            together: list[_Record | Accounts] = []
            for item in self._gather():
                if isinstance(item, _Record | Accounts):
                    together.append(item)
                    continue
                self._commit(db, together)
                together = []
                if item is None:
                    return
                self._make(db, item)
            self._commit(db, together)
            if time.monotonic() >= self._retention_due_s:
                self._tidy(db)

    def _gather(self) -> list[_Record | Accounts | _Change | None]:
        """What has come since the last time; waits for one, unless retention is due before."""
        try:
            first = self._queue.get(timeout=max(0.0, self._retention_due_s - time.monotonic()))
        except Empty:
            return []
        if isinstance(first, _Record | Accounts):
            self._closing.wait(_GATHER_S)
        return [first, *(self._queue.get() for _ in range(min(self._queue.qsize(), _BATCH - 1)))]

    def _commit(self, db: Database, batch: list[_Record | Accounts]) -> None:
        """Writes records in one transaction, however often that takes, and says so for each.

        Raises StoreError where the store is being closed and the last try failed too.
        """
        retry_s = _FIRST_RETRY_S
        while batch:
            last_try = self._closing.is_set()
            try:
                with db.atomic():
                    _insert_all(db, batch)
            except sqlite3.Error as error:
                self._stumble(error)
                if last_try:
                    raise StoreError(f"{len(batch)} records or more are lost: {error}.") from error
                self._closing.wait(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                self._recover()
                break
        for item in batch:
            if isinstance(item, _Record):
                self._report(item)

    def _stumble(self, error: sqlite3.Error) -> None:
        if self._failure is None:
            _log.error("the log cannot be written: %s; it is tried again, nothing is lost", error)
        self._failure = f"The log cannot be written to {self._path}: {error}."

    def _recover(self) -> None:
        if self._failure is not None:
            _log.warning("the log is written again")
            self._failure = None

    def _report(self, record: _Record) -> None:
        try:
            self._on_logged(record.delivery, record.key, record.reply)
        except Exception:  # noqa: BLE001 - whoever listens must not stop the log
            _log.exception("after logging the reply %s", record.reply.id)

    def _make(self, db: Database, change: _Change) -> None:
        if not change.done.set_running_or_notify_cancel():
            return
        try:
            # Unlike the log's last moments, what a caller waits for survives a power cut too.
            db.execute("PRAGMA synchronous = FULL")
            with sentences("written", self._path):
                outcome = change.make(db)
        except Exception as error:  # noqa: BLE001 - it is raised where the change was asked for
            change.done.set_exception(error)
        else:
            change.done.set_result(outcome)
        finally:
            db.execute("PRAGMA synchronous = NORMAL")

    def _tidy(self, db: Database) -> None:
        deleted_some = False
        try:
            deleted_some = self._retain(db)
        except sqlite3.Error as error:
            _log.warning("old records cannot be deleted: %s", error)
        # A little at a time: what is to be logged comes in between.
        self._retention_due_s = time.monotonic() + (0 if deleted_some else _RETENTION_EVERY_S)
        if self._turned_away > self._turned_away_said:
            _log.error("%d records are lost: the disk did not keep up", self._turned_away)
            self._turned_away_said = self._turned_away

    def _retain(self, db: Database) -> bool:
        """Deletes some rows that are too old, else the oldest of too many; whether there were."""
        oldest_s = self._clock() - self._max_age_s
        with db.atomic():
            ledger.forget(db.conn, self._clock() - ledger.MAX_AGE_S)
            deleted = _delete_oldest(db, before_s=oldest_s)
            if not deleted and _file_bytes(db) > self._max_file_bytes:
                deleted = _delete_oldest(db, before_s=math.inf)
        if deleted:
            # By executescript, which steps to the end; execute would give back a single page.
            db.conn.executescript("PRAGMA incremental_vacuum")
        return deleted > 0

    def _abandon(self) -> None:
        """Tells those who wait for a change that it will not come."""
        while not self._queue.empty():
            item = self._queue.get()
            if isinstance(item, _Change) and item.done.set_running_or_notify_cancel():
                item.done.set_exception(StoreError(self._failure or "The store is closed."))


def _insert_all(db: Database, batch: list[_Record | Accounts]) -> None:
    reported = Reported()
    for item in batch:
        if isinstance(item, Accounts):
            ledger.write(db.conn, item)
        elif _insert(db, item):
            reported.take(item.reply)
    reported.add_to(db.conn)


def _insert(db: Database, record: _Record) -> bool:
    """Adds a reply to the log; whether it was not there already."""
    try:
        return records.insert(db.conn, record.reply, record.key)
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError, ValueError, OverflowError) as error:
        # Trying it again cannot help, and unacknowledged it would come back for ever.
        _log.error("the reply %s cannot be logged: %s", record.reply.id, error)
        return False


def _delete_oldest(db: Database, *, before_s: float) -> int:
    return db.execute(
        "DELETE FROM inferences WHERE rowid IN"
        " (SELECT rowid FROM inferences WHERE arrived_s < ? ORDER BY arrived_s LIMIT ?)",
        [before_s, _RETENTION_ROWS],
    ).rowcount


def _file_bytes(db: Database) -> int:
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    return pages * PAGE_BYTES


def _save_policy(db: Database, *, policy: StoredPolicy) -> None:
    with db.atomic():
        in_force = db.execute(
            f"SELECT version, digest FROM policies WHERE tenant = ? AND {IN_FORCE}",  # noqa: S608 - the names are ours, values are bound
            [policy.tenant],
        ).fetchone()
        if in_force == (policy.version, policy.digest):
            return
        db.execute(
            f"UPDATE policies SET replaced_s = ? WHERE tenant = ? AND {IN_FORCE}",  # noqa: S608 - the names are ours, values are bound
            [policy.accepted_s, policy.tenant],
        )
        db.table("policies").insert(asdict(policy))


def _remove_policy(db: Database, *, tenant: str, now_s: float) -> None:
    with db.atomic():
        db.execute(
            f"UPDATE policies SET removed_s = ? WHERE tenant = ? AND {IN_FORCE}",  # noqa: S608 - the names are ours, values are bound
            [now_s, tenant],
        )


def _save_command(db: Database, *, name: str, value: str | None) -> None:
    with db.atomic():
        db.execute("DELETE FROM commands WHERE name = ?", [name])
        if value is not None:
            db.table("commands").insert({"name": name, "value": value})
