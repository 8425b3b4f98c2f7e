"""Frames in folders: finding them, knowing their kind, and drawing parts of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from appliance.engine import Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets.dataset import Example

VALID_FRACTION = 0.2
SEED = 404

_KINDS: Mapping[str, Kind] = {
    ".jpg": Kind.IMAGE,
    ".jpeg": Kind.IMAGE,
    ".png": Kind.IMAGE,
    ".wav": Kind.AUDIO,
    ".npy": Kind.TENSOR,
}


def require_folder(folder: Path, advice: str) -> Path:
    """The folder, if it is one. Raises ModellingError with the advice."""
    if not folder.is_dir():
        raise ModellingError(f"there is no folder {folder}: {advice}")
    return folder


def lines_of(path: Path, advice: str) -> list[str]:
    """The lines of a list that lies in a dataset. Raises ModellingError with the advice."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise ModellingError(f"there is no file {path}: {advice}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModellingError(f"{path} cannot be read: {error}") from error


def sub_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def files_in(folder: Path) -> list[str]:
    """The names of the files in a folder, sorted, without the hidden ones that desktops leave."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))


def example_of(folder: Path, name: str, label: str) -> Example:
    path = folder / name
    return Example(name=str(path), label=label, read=path.read_bytes)


def kind_of(paths: Iterable[str]) -> Kind:
    """What all of these files hold, by their endings; arrays count as what lies beside them.

    Raises ModellingError for a file that is no frame, and for images among sounds.
    """
    seen: dict[Kind, str] = {}
    for path in paths:
        kind = _KINDS.get(os.path.splitext(path)[1].lower())  # noqa: PTH122 - of 100,000 names
        if kind is None:
            raise ModellingError(
                f"{path} is no frame: only {', '.join(_KINDS)} may lie in the folder of a label"
            )
        seen.setdefault(kind, path)
    if Kind.IMAGE in seen and Kind.AUDIO in seen:
        raise ModellingError(
            f"{seen[Kind.IMAGE]} is an image and {seen[Kind.AUDIO]} a sound: keep one kind"
        )
    return next((kind for kind in (Kind.IMAGE, Kind.AUDIO) if kind in seen), Kind.TENSOR)


def drawn(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The examples for training and those for validation, a fifth of every label.

    Of each label's examples, sorted by name, a permutation is drawn from a seed that is made of the
    label: so it depends neither on the order of a folder nor on other labels. A label of one
    example has it in training.
    """
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.label, []).append(example)
    train: list[Example] = []
    valid: list[Example] = []
    for label, members in sorted(by_label.items()):
        members.sort(key=lambda example: example.name)
        count = max(1, round(VALID_FRACTION * len(members))) if len(members) > 1 else 0
        rng = np.random.default_rng((SEED, zlib.crc32(label.encode())))
        chosen = set(rng.permutation(len(members))[:count].tolist())
        for number, member in enumerate(members):
            (valid if number in chosen else train).append(member)
    return train, valid
