"""How much of the log is kept: its oldest rows are deleted, a few at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlite_utils import Database

from appliance import ledger
from appliance.database import PAGE_BYTES, writing

_ROWS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """What the log may come to: in seconds since a row's request arrived, and in bytes."""

    max_age_s: float
    max_file_bytes: int

    def apply(self, db: Database, *, now_s: float) -> bool:
        """Deletes some rows that are too old, else the oldest of too many; whether there were."""
        with writing(db):
            ledger.forget(db.conn, now_s - ledger.MAX_AGE_S)
            deleted = _delete_oldest(db, before_s=now_s - self.max_age_s)
            if not deleted and _file_bytes(db) > self.max_file_bytes:
                deleted = _delete_oldest(db, before_s=math.inf)
        if deleted:
            # By executescript, which steps to the end; execute would give back a single page.
            db.conn.executescript("PRAGMA incremental_vacuum")
        return deleted > 0


def _delete_oldest(db: Database, *, before_s: float) -> int:
    return db.execute(
        "DELETE FROM inferences WHERE rowid IN"
        " (SELECT rowid FROM inferences WHERE arrived_s < ? ORDER BY arrived_s LIMIT ?)",
        [before_s, _ROWS],
    ).rowcount


def _file_bytes(db: Database) -> int:
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    return pages * PAGE_BYTES
