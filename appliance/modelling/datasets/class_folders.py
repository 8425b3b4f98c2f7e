"""Folders of frames in sub-folders named by label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.engine import Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets.dataset import Example, Part
from appliance.modelling.datasets.files import (
    drawn,
    example_of,
    files_in,
    kind_of,
    require_folder,
    sub_folders,
)

_NAMES = {
    Part.TRAIN: ("train",),
    Part.VALID: ("valid", "val", "validation"),
    Part.TEST: ("test",),
}
_ADVICE = "name one that holds a sub-folder of frames for each label: LABEL/FRAME"


class ClassFolders:
    """A folder of frames in sub-folders named by label: `LABEL/FRAME`.

    With sub-folders `train`, `valid` or `test` these are the parts, each of class sub-folders.
    Where none is for validation, a fifth of the training part is, drawn by a fixed seed; where
    there are no parts at all, all of it is for training and validation.
    """

    def __init__(self, folder: Path) -> None:
        require_folder(folder, _ADVICE)
        roots = dict(_parts(folder)) or {Part.TRAIN: folder}
        found = {part: _examples(root) for part, root in roots.items()}
        names = (example.name for examples in found.values() for example in examples)
        self.kind: Kind = kind_of(names)
        if Part.VALID not in found and Part.TRAIN in found:
            found[Part.TRAIN], found[Part.VALID] = drawn(found[Part.TRAIN])
        self._examples = found

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({e.label for examples in self._examples.values() for e in examples}))

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:  # noqa: ARG002 - files have one view
        return list(self._examples.get(part, ()))


class HeldOutFrames:
    """The frames that lie with an engine: `LABEL/FRAME`, all of them for testing."""

    def __init__(self, folder: Path) -> None:
        require_folder(
            folder, "the engine has no frames of its own; name others with --dataset-dir"
        )
        self._examples = _examples(folder)
        self.kind: Kind = kind_of(example.name for example in self._examples)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({example.label for example in self._examples}))

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:  # noqa: ARG002 - files have one view
        return list(self._examples) if part is Part.TEST else []


def _parts(folder: Path) -> Iterator[tuple[Part, Path]]:
    for part, names in _NAMES.items():
        found = [folder / name for name in names if (folder / name).is_dir()]
        if found:
            yield part, found[0]


def _examples(root: Path) -> list[Example]:
    labels = sub_folders(root)
    if not labels:
        raise ModellingError(f"{root} holds no sub-folders: make one for each label")
    return [example for label in labels for example in _examples_of(root / label)]


def _examples_of(folder: Path) -> list[Example]:
    names = files_in(folder)
    if not names:
        raise ModellingError(f"{folder} is empty: put frames of {folder.name} there, or remove it")
    return [example_of(folder, name, folder.name) for name in names]
