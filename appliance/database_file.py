"""The database in use: its file opened, looked through, and replaced where it has to be."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlite_utils import Database

from appliance import backups, files, standing
from appliance.backups import Backups
from appliance.database import (
    NOT_WRITTEN,
    check,
    is_empty,
    open_for_writing,
    require_folder,
    sentences,
)
from appliance.errors import DatabaseDamaged, DatabaseInUse, StoreError
from appliance.standing import Standing

_log = logging.getLogger(__name__)

CHECK_S = 1.0
"""How long the start may be held up by looking for damage; a larger file is looked through in
part, and the rest when it is read."""
_RECHECK_S = 5.0
RESTORED, TAKING = ".restored", ".taking"
"""What the name of a database ends with that is to take the place of the one in use, and once
that has begun."""
KEPT_DAMAGED, KEPT_REPLACED = 2, 1


class DatabaseFile:
    """Owns the writer's connection, and decides which file it is to. One thread may use it.

    A damaged file is set aside under another name. The newest backup that is whole takes its
    place, and what was in force when the damage came about stays so.
    """

    def __init__(
        self, path: Path, *, wal_bytes: int, backups: Backups, wall_clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._wal_bytes = wal_bytes
        self._backups = backups
        self._wall_clock = wall_clock
        self._db: Database | None = None
        self._inode: int | None = None
        self._standing: Standing | None = None
        self.mishap: str | None = None
        """What became of the last file that was damaged, as a sentence."""

    def ready(self) -> Database:
        """The database, opened where it is not. Raises StoreError."""
        if self._db is None:
            self._open()
        assert self._db is not None  # noqa: S101 - _open has set it, or raised
        return self._db

    def start(self) -> None:
        """Opens the database, takes up what was restored meanwhile, and looks for damage.

        Raises StoreError where it cannot be opened, or is another program's or a newer version's.
        """
        self.take_up_restored()
        try:
            self._refuse_empty()
            self._open()
            self._look_through(limit_s=CHECK_S)
        except DatabaseDamaged as error:
            self.begin_anew(str(error))

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def remember(self) -> None:
        """Notes what is in force now, so that it outlasts the file."""
        self._standing = standing.read(self.ready().conn)

    def begin_anew(self, reason: str) -> None:
        """Sets the file aside, and goes on with the newest backup and with what was in force.

        Raises StoreError where no file can be made; `ready` tries again.
        """
        self.close()
        # Before anything is moved, so that a power cut or a full disk leaves the one or the other.
        backup = self._copied_backup()
        now_s = self._wall_clock()
        with _renaming(self._path):
            aside = files.set_aside(self._real, "damaged", now_s=now_s, keep=KEPT_DAMAGED)
            if backup is not None:
                files.put(files.beside(self._real, TAKING), self._real)
        is_aside = f" It is set aside as {aside.name}." if aside.exists() else ""
        goes_on = f"with the backup {backup.name}" if backup else "empty, as there is no backup"
        in_force = ", and what was in force stays so" if self._standing is not None else ""
        mishap = f"{reason}{is_aside} The new one begins {goes_on}{in_force}."
        _log.error(mishap)
        self._open()
        self.mishap = mishap

    def look_again(self, reason: str) -> None:
        """Looks for damage that somebody has met, and begins anew where it is found.

        On a new connection, since one that has been open remembers pages as they were.
        """
        self.close()
        try:
            if self._look_through(limit_s=_RECHECK_S):
                return
        except DatabaseDamaged as error:
            reason = str(error)
        self.begin_anew(reason)

    def follow(self) -> bool:
        """Goes on with the file at the path, where that is not the one in use any more.

        What is written to a file that was moved or removed is lost. Whether another one has come
        in its place.
        """
        if self._db is None or self._inode == _inode(self._path):
            return False
        self.close()
        if not self._path.is_file():
            self.begin_anew(f"The database {self._path} was moved or removed.")
            return False
        _log.warning("another database was put at %s, and is used from now on", self._path)
        self._standing = None
        self.start()
        return True

    def take_up_restored(self) -> bool:
        """Puts what `delen restore` left in the database's place; whether there was anything."""
        taking = files.beside(self._real, TAKING)
        with suppress(OSError):
            files.beside(self._real, RESTORED).replace(taking)
        if not taking.exists():
            return False
        self.close()
        try:
            backups.verify(taking)
            self._replace_by(taking)
        except StoreError as error:
            _log.error("what was to be restored is not: %s", error)
            files.remove(taking)
            return False
        self._standing = None
        _log.warning("the database is the one that was restored")
        return True

    def _replace_by(self, taking: Path) -> None:
        with _renaming(self._path):
            if self._real.exists():
                now_s = self._wall_clock()
                aside = files.set_aside(self._real, "replaced", now_s=now_s, keep=KEPT_REPLACED)
                _log.warning("the database that was in use is set aside as %s", aside.name)
            files.put(taking, self._real)

    @property
    def _real(self) -> Path:
        return self._path.resolve()

    def _open(self) -> None:
        db = open_for_writing(self._path, wal_bytes=self._wal_bytes)
        try:
            with sentences("opened", self._path):
                if self._standing is not None:
                    standing.write(db, self._standing, now_s=self._wall_clock())
                self._standing = standing.read(db.conn)
        except BaseException:
            db.close()
            raise
        self._db, self._inode = db, _inode(self._path)

    def _look_through(self, *, limit_s: float) -> bool:
        with sentences("checked", self._path):
            whole = check(self.ready(), self._path, limit_s=limit_s)
        if not whole:
            _log.info("the database is large: not all of it was looked through for damage")
        return whole

    def _refuse_empty(self) -> None:
        candidates = self._backups.newest_first()
        if not candidates:
            return
        if not self._path.exists():
            _log.warning(
                "there is no database at %s, a new one is made; for what was in it:"
                " delen restore %s",
                self._path,
                candidates[0],
            )
        elif self._path.is_file() and is_empty(self._path):
            raise DatabaseDamaged(f"The database {self._path} is damaged: it is empty.")

    def _copied_backup(self) -> Path | None:
        """The newest backup that is whole, of which a copy is ready to be taken up now."""
        for candidate in self._backups.newest_first():
            try:
                backups.verify(candidate)
            except StoreError as error:
                _log.warning("the backup %s is passed by: %s", candidate.name, error)
            else:
                backups.copy(candidate, files.beside(self._real, TAKING))
                return candidate
        return None


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Has a database to itself, so that it may be replaced. Raises StoreError where it is used."""
    require_folder(path)
    lock = files.beside(path, ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"The database {path} cannot be opened: {error}. {NOT_WRITTEN}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatabaseInUse(
                f"The database {path} is in use by another appliance: end that one, or set"
                " DELEN_DATABASE to another file."
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _renaming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        sentence = f"The database {path} cannot be set aside: {error}. {NOT_WRITTEN}"
        raise StoreError(sentence) from error


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
