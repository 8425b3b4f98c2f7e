"""Files that change places, so that whoever reads finds the one or the other, whole."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

BESIDE = ("-wal", "-shm", "")
"""What SQLite keeps beside a database, and it: in the order in which they may be moved."""


def write(target: Path, content: bytes) -> None:
    """Writes what may be lost in a power cut in the place of what was there. Raises OSError."""
    partial = beside(target, ".partial")
    partial.write_bytes(content)
    partial.replace(target)


def put(source: Path, target: Path) -> None:
    """Puts a file in another's place, both in one file system, and has the disk keep it.

    Raises OSError.
    """
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def make_private(path: Path) -> None:
    """Makes an empty file where there is none, for whoever owns its folder alone.

    What SQLite puts beside a database takes its mode. One that is there is not even opened: to
    close it again would end the locks that this process holds on it. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            # What root restores or backs up is the appliance's to read.
            folder = path.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def set_aside(database: Path, word: str, *, now_s: float, keep: int) -> Path:
    """Renames a database and what lies beside it, as `delen.db.damaged-20261124T213000`.

    Of those that were set aside with this word the newest `keep` stay. Raises OSError.
    """
    moment = datetime.fromtimestamp(now_s, timezone.utc)
    stem = database.with_name(f"{database.name}.{word}-{moment:%Y%m%dT%H%M%S}")
    aside, number = stem, 1
    while aside.exists():
        aside, number = stem.with_name(f"{stem.name}.{number}"), number + 1
    # The log first: left beside a new database it would be taken for that one's.
    for suffix in BESIDE:
        _move(beside(database, suffix), beside(aside, suffix))
    sync_folder(database.parent)
    others = {path for path in _aside(database, word) if path != aside}
    for path in sorted(others, key=lambda path: path.stat().st_mtime_ns)[: len(others) + 1 - keep]:
        remove(path)
    return aside


def remove(database: Path) -> None:
    """Removes a database and what lies beside it. Raises OSError."""
    for suffix in BESIDE:
        beside(database, suffix).unlink(missing_ok=True)


def beside(database: Path, suffix: str) -> Path:
    """The file of this suffix that belongs to a database."""
    return database.with_name(database.name + suffix)


def sync_folder(folder: Path) -> None:
    """Has the disk keep the names in a folder. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(database: Path, word: str) -> list[Path]:
    found = database.parent.glob(f"{database.name}.{word}-*")
    return [path for path in found if not path.name.endswith(("-wal", "-shm"))]


def _move(source: Path, target: Path) -> None:
    if source.exists():
        source.replace(target)
