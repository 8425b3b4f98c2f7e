"""Takes backups by itself: every so often, and soon after what is in force has changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from typing_extensions import Self

from appliance import backups
from appliance.backups import WITH_LOG, Backups
from appliance.errors import StoreError
from appliance.settings import Settings

_log = logging.getLogger(__name__)

SETTLE_S = 5.0
"""How long after a backup the next change is waited for, so that many pushes make few of them."""
_RETRY_S = 60.0


class Safekeeping:
    """Owns the thread that backs up what is not the log: policies, commands, budgets, the ledger.

    Within `every_s` of the last backup a change replaces it, afterwards a new one is written; so
    the `keep` that stay reach back that many times. `changed` is set where something in force has
    changed. Where nothing is to be kept, nothing is done.
    """

    def __init__(
        self,
        database: Path,
        folder: Backups,
        *,
        every_s: float,
        changed: threading.Event,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._backups = folder
        self._every_s = every_s
        self._changed = changed
        self._wall_clock = wall_clock
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="safekeeping")

    @classmethod
    def of(cls, settings: Settings, *, changed: threading.Event) -> Self:
        """The one that the settings describe."""
        folder = Backups.of(settings)
        return cls(settings.database, folder, every_s=settings.backup_every, changed=changed)

    def __enter__(self) -> Self:
        if self._backups.keep:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._backups.keep:
            unsaved = self._changed.is_set()
            self._changed.set()
            self._thread.join()
            if unsaved:
                self.take()

    def take(self) -> bool:
        """Writes a backup now; whether that was possible, which the log says otherwise."""
        newest = self._newest()
        try:
            target = self._backups.next(with_log=False) if self._is_due(newest) else newest
            if target is not None:
                backups.take(self._database, target, with_log=False)
            self._backups.prune()
        except StoreError as error:
            _log.warning("no backup could be taken: %s", error)
            return False
        return True

    def _run(self) -> None:
        due_s = time.monotonic()
        taken_s = due_s - SETTLE_S
        if not self._is_due(self._newest()):
            due_s += self._every_s
        while not self._closing.is_set():
            if self._changed.wait(timeout=max(0.0, due_s - time.monotonic())):
                if self._closing.wait(max(0.0, taken_s + SETTLE_S - time.monotonic())):
                    return
                self._changed.clear()
            due_s = time.monotonic() + (self._every_s if self.take() else _RETRY_S)
            taken_s = time.monotonic()

    def _newest(self) -> Path | None:
        small = (path for path in self._backups.newest_first() if WITH_LOG not in path.name)
        return next(small, None)

    def _is_due(self, newest: Path | None) -> bool:
        try:
            age_s = self._wall_clock() - newest.stat().st_mtime if newest is not None else None
        except OSError:
            age_s = None
        # A clock that was set back says nothing of an age.
        return age_s is None or not 0 <= age_s < self._every_s
