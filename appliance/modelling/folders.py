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
    require_replaceable(place, mark=mark)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        if place.exists():
            place.rename(old)
        new.rename(place)


def require_replaceable(place: Path, *, mark: str) -> None:
    """Raises ModellingError where there is something at a place that is not to be lost."""
    if not place.exists():
        return
    if not place.is_dir() or (any(place.iterdir()) and not (place / mark).is_file()):
        raise ModellingError(f"{place} is something else, without {mark}: name another folder")
