"""What must outlast a restart: the inference log, the policies and the energy, in SQLite."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from typing_extensions import Self

from appliance import standing
from appliance.backups import Backups
from appliance.database_file import DatabaseFile
from appliance.errors import StoreError
from appliance.ledger import Accounts
from appliance.messages import Reply, RequestKey
from appliance.retention import Retention
from appliance.settings import Settings
from appliance.standing import StoredPolicy
from appliance.write_ahead import WriteAheadLog
from appliance.writer import Change, Gathering, Inbox, Record, Suspicion, Writer

UNACKNOWLEDGED_RECORDS = 10_000
"""How many records may wait to be written before those that nobody waits for are turned away."""

_CHANGE_TIMEOUT_S = 10.0
_WAL_BYTES = 4 * 2**20


class Store:
    """Writes to the database, in a thread of its own.

    Records that have gathered are committed together, and only then is `on_logged` called with
    each of them, in the writer's thread: with its delivery, its key and its reply. Rows that
    arrived more than `max_age_s` ago are deleted, and the oldest ones where the file and its
    write-ahead log would outgrow `max_bytes`; policies are kept. A damaged file is replaced by the
    newest of `backups`. `on_restored` is called in the writer's thread after `delen restore` has
    put another database in its place. `clock` gives seconds since the epoch.

    Entering it raises StoreError where the database cannot be opened.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        path: Path,
        *,
        max_age_s: float,
        max_bytes: int,
        on_logged: Callable[[int, RequestKey | None, Reply], None],
        on_restored: Callable[[], None] = lambda: None,
        backups: Backups | None = None,
        gathering: Gathering | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock = clock
        self._inbox = Inbox(gathering or Gathering())
        self._turned_away = 0
        self._turned_away_lock = threading.Lock()
        wal_bytes = min(_WAL_BYTES, max_bytes // 4)
        self._retention = Retention(max_age_s=max_age_s, max_file_bytes=max_bytes - wal_bytes)
        self._file = DatabaseFile(
            path,
            wal_bytes=wal_bytes,
            backups=backups or Backups(folder=path.with_name(f"{path.name}.backups"), keep=0),
            wall_clock=clock,
        )
        self._writer = Writer(
            path,
            inbox=self._inbox,
            file=self._file,
            retention=self._retention,
            wal=WriteAheadLog(database=path, calm_bytes=wal_bytes, max_bytes=max_bytes),
            on_logged=on_logged,
            on_restored=on_restored,
            turned_away=lambda: self._turned_away,
            clock=clock,
        )
        self._thread = threading.Thread(target=self._writer.run, name="store")
        self.changed = self._writer.changed
        """Set whenever a policy or a command is changed; whoever waits for it clears it."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        on_logged: Callable[[int, RequestKey | None, Reply], None],
        on_restored: Callable[[], None],
    ) -> Self:
        """The store that the settings describe."""
        return cls(
            settings.database,
            max_age_s=settings.log_max_age,
            max_bytes=int(settings.log_max_size),
            on_logged=on_logged,
            on_restored=on_restored,
            backups=Backups.of(settings),
            gathering=Gathering.below(settings.receive_maximum, settings.commit_interval),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._writer.opened.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes what was handed in and ends the thread; StoreError where that was not possible."""
        self._writer.closing.set()
        self._inbox.put(None)
        self._thread.join()
        if self._writer.failure is not None:
            raise StoreError(self._writer.failure)

    @property
    def failed(self) -> str | None:
        """What keeps the log from being written, as a sentence; None while all is well."""
        return self._writer.failure

    @property
    def mishap(self) -> str | None:
        """What became of the database's file that was last found damaged; None for none."""
        return self._file.mishap

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
        if not delivery and len(self._inbox) >= UNACKNOWLEDGED_RECORDS:
            with self._turned_away_lock:
                self._turned_away += 1
            return False
        self._inbox.put(Record(reply=reply, delivery=delivery, key=key))
        return True

    def keep(self, accounts: Accounts) -> None:
        """Hands charges and budgets to the writer, which commits them with the next records."""
        self._inbox.put(accounts)

    def suspect(self, sentence: str) -> None:
        """Has the writer look for damage that somebody met, without waiting for it."""
        self._inbox.put(Suspicion(sentence=sentence, at_s=time.monotonic()))

    def save_command(self, name: str, value: str | None) -> None:
        """Keeps what a fleet manager said, or forgets it; durable when it returns.

        Raises StoreError.
        """
        self._change(partial(standing.save_command, name=name, value=value))

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
        self._change(partial(standing.save_policy, policy=policy))

    def remove_policy(self, tenant: str) -> None:
        """Takes a tenant's policy out of force; durable when it returns. Raises StoreError."""
        self._change(partial(standing.remove_policy, tenant=tenant, now_s=self._clock()))

    def apply_retention(self) -> None:
        """Deletes what is too old or too much now, not at the next quiet moment."""
        while self._change(lambda db: self._retention.apply(db, now_s=self._clock())):
            pass

    def _change(self, make: Callable[[Database], Any]) -> Any:
        if self._writer.closing.is_set():
            raise StoreError("The store is closed: it takes no change any more.")
        if not self._thread.is_alive():
            raise StoreError(self._writer.failure or "The store's writer has ended.")
        change = Change(make=make, done=Future())
        self._inbox.put(change)
        try:
            return change.done.result(timeout=_CHANGE_TIMEOUT_S)
        except FutureTimeoutError as error:
            change.done.cancel()
            raise StoreError(
                f"The database {self._path} took no change for {_CHANGE_TIMEOUT_S:.0f} s."
                f" {self._writer.failure or 'Its disk is slow: try again.'}"
            ) from error
