"""Frames in folders: which files are taken for one, and what their folder says is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".npy", ".wav"})
"""What is taken for a frame in a folder; a file that is named is one whatever it is called."""


@dataclass(frozen=True, slots=True)
class FrameFile:
    """A file, and the name of the sub-folder it lies in, which is the label of what it shows."""

    path: Path
    label: str | None


def frames_in(paths: Iterable[Path]) -> list[Path]:
    """The files as they are given, and the frames in the folders, sorted, at any depth."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            found += sorted(file for file in inside if file.is_file())
        else:
            found.append(path)
    return found


def labelled_frames_in(folder: Path) -> list[FrameFile]:
    """The frames in a folder; those directly in it have no label."""
    return [
        FrameFile(path, None if path.parent == folder else path.parent.name)
        for path in frames_in([folder])
    ]
