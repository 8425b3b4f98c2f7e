"""The write-ahead log beside the database: emptied at calm moments, and never without bound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from appliance import files
from appliance.errors import StoreError


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteAheadLog:
    """How large the log should be, and may at most get while another program holds on to it."""

    database: Path
    calm_bytes: int
    max_bytes: int

    def calm(self, db: Database) -> None:
        """Cuts the log to nothing where it has grown and nobody reads from it."""
        if self._bytes() > self.calm_bytes:
            _, written, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if written == copied:
                _truncate(db)

    def require_room(self, db: Database) -> None:
        """Raises StoreError where the log is too large to add to, and cannot be emptied."""
        size = self._bytes()
        if size > self.max_bytes and not _truncate(db):
            raise StoreError(
                f"the write-ahead log has grown to {size / 1e6:.0f} MB, because another program"
                f" has been reading {self.database} for long: end it (`fuser {self.database}`)"
            )

    def _bytes(self) -> int:
        try:
            return files.beside(self.database, "-wal").stat().st_size
        except OSError:
            return 0


def _truncate(db: Database) -> bool:
    busy: int = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy
