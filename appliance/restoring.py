"""Restores a backup: into a database that nobody uses, or by the appliance that uses it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from appliance import backups, files
from appliance.backups import Backups
from appliance.database_file import RESTORED, TAKING, DatabaseFile, in_use
from appliance.errors import DatabaseInUse, StoreError

TAKEN_UP_WITHIN_S = 30.0
_WAL_BYTES = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Restoration:
    """What was restored, and who did it."""

    backup: str
    database: str
    policies: int
    """How many are in force by the backup."""
    by_running_appliance: bool


def restore(backup: Path, database: Path) -> Restoration:
    """Puts a backup in a database's place, and sets the database aside.

    Where an appliance runs on it, that one does it, and what was in flight is logged in the one
    or in the other. Raises StoreError where nothing was changed, with the reason.
    """
    real = database.resolve()
    policies = backups.verify(backup)
    staged = files.beside(real, RESTORED)
    backups.copy(backup, staged)
    inode = staged.stat().st_ino
    try:
        with in_use(database):
            file = DatabaseFile(
                database,
                wal_bytes=_WAL_BYTES,
                backups=Backups(folder=real.parent, keep=0),
                wall_clock=time.time,
            )
            file.take_up_restored()
            file.close()
        running = False
    except DatabaseInUse:
        _wait_until_taken_up(staged, real)
        running = True
    if not real.exists() or real.stat().st_ino != inode:
        raise StoreError(f"{backup} was not restored: the log of the appliance says why.")
    return Restoration(
        backup=str(backup),
        database=str(database),
        policies=policies,
        by_running_appliance=running,
    )


def _wait_until_taken_up(staged: Path, database: Path) -> None:
    taking = files.beside(database, TAKING)
    deadline_s = time.monotonic() + TAKEN_UP_WITHIN_S
    while staged.exists() or taking.exists():
        if time.monotonic() > deadline_s:
            begun = not staged.exists()
            files.remove(staged)
            raise StoreError(
                f"The appliance that uses {database} did not take the backup up within"
                f" {TAKEN_UP_WITHIN_S:.0f} s. "
                + (
                    "It has begun to, and will when it is started again."
                    if begun
                    else "Nothing was changed: ask `delen health`, and try again."
                )
            )
        time.sleep(0.05)
