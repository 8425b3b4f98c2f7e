"""A folder that appears whole: it is written beside its place and then renamed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import ModellingError


@contextmanager
def replaced_folder(place: Path, *, mark: str) -> Iterator[Path]:
    """A new folder to write into, which takes the place of the old one when the block ends well.

    Where the block raises, what was there before is still there. `mark` is the file by which such
    a folder is known: a folder without it holds something else, and is refused (ModellingError).
    """
    if place.exists() and not _replaceable(place, mark):
        raise ModellingError(f"{place} is something else, without {mark}: name another folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        if place.exists():
            place.rename(old)
        new.rename(place)


def _replaceable(place: Path, mark: str) -> bool:
    return place.is_dir() and ((place / mark).is_file() or not any(place.iterdir()))
