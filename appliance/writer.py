"""The store's writer: commits what has gathered, and keeps the database's file in order."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from sqlite_utils import Database

from appliance import ledger, records
from appliance.database import is_damage, sentences, writing
from appliance.database_file import DatabaseFile, in_use
from appliance.errors import DatabaseDamaged, StoreError
from appliance.ledger import Accounts, Reported
from appliance.messages import Reply, RequestKey
from appliance.retention import Retention
from appliance.write_ahead import WriteAheadLog

_log = logging.getLogger(__name__)

_BATCH = 500
_LOOK_EVERY_S = 1.0
_RETENTION_EVERY_S = 10.0
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathering:
    """How long records wait for others to be committed with, and how many need not wait.

    A request's own way is not held up by its row, and flash is written to less often; only what
    the broker may have outstanding is, so that its limit must not be reached by waiting.
    """

    longest_s: float = 0.005
    enough: int = 10

    @classmethod
    def below(cls, receive_maximum: int, longest_s: float) -> Gathering:
        """What fits a broker that has so many outstanding at most: half of them is enough."""
        return cls(longest_s=longest_s, enough=max(1, min(10, receive_maximum // 2)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    reply: Reply
    delivery: int
    key: RequestKey | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something else to do in the writer's thread, for a caller who waits until it is durable."""

    make: Callable[[Database], Any]
    done: Future[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspicion:
    """What somebody met who read the database."""

    sentence: str
    at_s: float
    """By the monotonic clock."""


Item = Record | Accounts | Change | Suspicion | None


class Inbox:
    """What waits to be written. Everybody puts, the writer takes."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        # Before Python 3.13 a SimpleQueue may wait for ever for what it is to wait for a while.
        self._queue: Queue[Item] = Queue()
        self._hurry = threading.Event()

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, item: Item) -> None:
        """Puts something in; what somebody waits for ends the gathering."""
        self._queue.put(item)
        gathers = isinstance(item, Record | Accounts)
        if not gathers or len(self) + 1 >= self._gathering.enough:
            self._hurry.set()

    def gather(self, timeout_s: float) -> list[Item]:
        """What has come since the last time; waits for one so long, then for others to join it."""
        try:
            first = self._queue.get(timeout=timeout_s)
        except Empty:
            return []
        if isinstance(first, Record | Accounts) and len(self) + 1 < self._gathering.enough:
            self._hurry.wait(self._gathering.longest_s)
        self._hurry.clear()
        return [first, *(self._queue.get() for _ in range(min(len(self), _BATCH - 1)))]


class Writer:
    """Runs in the store's thread, to which everything here belongs but what is read from outside.

    `turned_away` gives how many records found no room.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        path: Path,
        *,
        inbox: Inbox,
        file: DatabaseFile,
        retention: Retention,
        wal: WriteAheadLog,
        on_logged: Callable[[int, RequestKey | None, Reply], None],
        on_restored: Callable[[], None],
        turned_away: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._inbox = inbox
        self._file = file
        self._retention = retention
        self._wal = wal
        self._on_logged = on_logged
        self._on_restored = on_restored
        self._turned_away = turned_away
        self._clock = clock
        self._look_due_s = self._retention_due_s = self._looked_s = 0.0
        self._turned_away_said = 0
        self.opened: Future[None] = Future()
        self.closing = threading.Event()
        self.changed = threading.Event()
        self.failure: str | None = None

    def run(self) -> None:
        try:
            with in_use(self._path):
                self._serve()
        except StoreError as error:
            if not self.opened.done():
                self.opened.set_exception(error)
            self.failure = str(error)
        except BaseException as error:
            if self.opened.done():
                raise
            self.opened.set_exception(error)

    def _serve(self) -> None:
        self._file.start()
        self.opened.set_result(None)
        try:
            self._write()
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged, and shows in `failed`
            _log.exception("the store's writer has ended")
            self.failure = f"The store's writer has ended: {error!r}. Start the appliance again."
        finally:
            self._file.close()
            self._abandon()

    def _write(self) -> None:
        while True:
            together: list[Record | Accounts] = []
            for item in self._inbox.gather(max(0.0, self._look_due_s - time.monotonic())):
                if isinstance(item, Record | Accounts):
                    together.append(item)
                    continue
                self._commit(together)
                together = []
                if item is None:
                    return
                if isinstance(item, Change):
                    self._make(item)
                else:
                    self._look_again(item)
            self._commit(together)
            if time.monotonic() >= self._look_due_s:
                self._look()

    def _commit(self, batch: list[Record | Accounts]) -> None:
        """Writes records in one transaction, however often that takes, and says so for each.

        Raises StoreError where the store is being closed and the last try failed too.
        """
        retry_s = _FIRST_RETRY_S
        while batch:
            last_try = self.closing.is_set()
            try:
                self._insert_all(batch)
            except (sqlite3.Error, UnicodeDecodeError, StoreError, OSError) as error:
                self._stumble(error)
                if last_try:
                    raise StoreError(f"{len(batch)} records or more are lost: {error}.") from error
                self.closing.wait(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                self._recover()
                break
        for item in batch:
            if isinstance(item, Record):
                self._report(item)

    def _insert_all(self, batch: list[Record | Accounts]) -> None:
        """Writes records in one transaction, to another file where this one is damaged."""
        try:
            self._insert_once(batch)
        except (sqlite3.Error, UnicodeDecodeError, DatabaseDamaged) as error:
            if not is_damage(error):
                raise
            self._file.begin_anew(f"The database {self._path} is damaged: {error}.")
            self._insert_once(batch)

    def _insert_once(self, batch: list[Record | Accounts]) -> None:
        db = self._file.ready()
        self._wal.require_room(db)
        with writing(db):
            _insert_each(db, batch)

    def _stumble(self, error: Exception) -> None:
        if self.failure is None:
            _log.error("the log cannot be written: %s; it is tried again, nothing is lost", error)
        self.failure = f"The log cannot be written to {self._path}: {error}."

    def _recover(self) -> None:
        if self.failure is not None:
            _log.warning("the log is written again")
            self.failure = None

    def _report(self, record: Record) -> None:
        try:
            self._on_logged(record.delivery, record.key, record.reply)
        except Exception:  # noqa: BLE001 - whoever listens must not stop the log
            _log.exception("after logging the reply %s", record.reply.id)

    def _make(self, change: Change) -> None:
        if not change.done.set_running_or_notify_cancel():
            return
        try:
            outcome = self._made(change)
        except Exception as error:  # noqa: BLE001 - it is raised where the change was asked for
            change.done.set_exception(error)
        else:
            change.done.set_result(outcome)

    def _made(self, change: Change) -> Any:
        try:
            outcome = self._make_once(change)
        except DatabaseDamaged as error:
            self._file.begin_anew(str(error))
            outcome = self._make_once(change)
        self.changed.set()
        return outcome

    def _make_once(self, change: Change) -> Any:
        with sentences("written", self._path):
            outcome = change.make(self._file.ready())
            self._file.remember()
        return outcome

    def _look(self) -> None:
        """What is done now and then: files that changed, old records, the log beside the file."""
        self._look_due_s = time.monotonic() + _LOOK_EVERY_S
        try:
            if self._file.take_up_restored() or self._file.follow():
                self.changed.set()
                self._on_restored()
            if time.monotonic() >= self._retention_due_s:
                self._tidy(self._file.ready())
        except (sqlite3.Error, UnicodeDecodeError, StoreError, OSError) as error:
            _log.warning("the database cannot be tidied: %s", error)
            if is_damage(error):
                sentence = f"The database {self._path} is damaged: {error}."
                self._look_again(Suspicion(sentence=sentence, at_s=time.monotonic()))

    def _look_again(self, suspicion: Suspicion) -> None:
        if suspicion.at_s <= self._looked_s:
            return
        try:
            self._file.look_again(suspicion.sentence)
            self._looked_s = time.monotonic()
        except (StoreError, OSError) as error:
            self._stumble(error)

    def _tidy(self, db: Database) -> None:
        deleted_some = self._retention.apply(db, now_s=self._clock())
        # A little at a time: what is to be logged comes in between.
        self._retention_due_s = time.monotonic() + (0 if deleted_some else _RETENTION_EVERY_S)
        if deleted_some:
            self._look_due_s = 0.0
        elif not len(self._inbox):
            self._wal.calm(db)
        turned_away = self._turned_away()
        if turned_away > self._turned_away_said:
            _log.error("%d records are lost: the disk did not keep up", turned_away)
            self._turned_away_said = turned_away

    def _abandon(self) -> None:
        """Tells those who wait for a change that it will not come."""
        while items := self._inbox.gather(0.0):
            for item in items:
                if isinstance(item, Change) and item.done.set_running_or_notify_cancel():
                    item.done.set_exception(StoreError(self.failure or "The store is closed."))


def _insert_each(db: Database, batch: list[Record | Accounts]) -> None:
    reported = Reported()
    for item in batch:
        if isinstance(item, Accounts):
            ledger.write(db.conn, item)
        elif _insert(db, item):
            reported.take(item.reply)
    reported.add_to(db.conn)


def _insert(db: Database, record: Record) -> bool:
    """Adds a reply to the log; whether it was not there already."""
    try:
        return records.insert(db.conn, record.reply, record.key)
    except UnicodeDecodeError:
        # A ValueError as well, but one that tells of damage.
        raise
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError, ValueError, OverflowError) as error:
        # Trying it again cannot help, and unacknowledged it would come back for ever.
        _log.error("the reply %s cannot be logged: %s", record.reply.id, error)
        return False
