"""What lies in a folder: a name in it may be a link that leads out of it."""

from __future__ import annotations

from pathlib import Path


def lies_within(path: Path, folder: Path) -> bool:
    """Whether a path leads to something in a folder, whatever links are on the way."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link that leads in a circle
        return False
