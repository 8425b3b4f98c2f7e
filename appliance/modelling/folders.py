"""A folder that appears whole: it is written beside its place and then renamed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from appliance.errors import ModellingError


@contextmanager
def replaced_folder(place: Path, *, mark: str) -> Iterator[Path]:
    """A new folder to write into, which takes the place of the old one when the block ends well.

    Where the block raises, what was there before is still there. `mark` is the file by which such
    a folder is known: a folder without it holds something else, and is refused (ModellingError).
    """
    require_replaceable(place, mark=mark)
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    mine = f".{place.name}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=mine, dir=place.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        if place.exists():
            place.rename(old)
        new.rename(place)


def _sweep(place: Path) -> None:
    """Removes what killed processes have left beside a place, and puts back what it held."""
    ours = re.compile(rf"\.{re.escape(place.name)}-(\d+)-\w+")
    for left in place.parent.iterdir():
        found = ours.fullmatch(left.name)
        if found is None or psutil.pid_exists(int(found[1])):
            continue
        if (left / "old").exists() and not place.exists():
            (left / "old").rename(place)
        shutil.rmtree(left, ignore_errors=True)


def require_replaceable(place: Path, *, mark: str) -> None:
    """Raises ModellingError where there is something at a place that is not to be lost."""
    if not place.exists():
        return
    if not place.is_dir() or (any(place.iterdir()) and not (place / mark).is_file()):
        raise ModellingError(f"{place} is something else, without {mark}: name another folder")
