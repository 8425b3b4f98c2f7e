"""Frames with known labels: what networks are trained, calibrated and measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance import frames
from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError, Rejected
from appliance.modelling import digit_frames


class Part(str, Enum):
    """What an example is for. No example is in two parts."""

    TRAIN = "train"
    VALID = "valid"
    """To choose weights, temperatures and thresholds by."""
    TEST = "test"
    """Held out: it only measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A frame as a sensor would send it, and what it shows."""

    name: str
    """What the frame is called: the name of its file, or the one that it would have."""
    label: str
    read: Callable[[], bytes]


class Dataset(Protocol):
    """Examples in parts. `labels` are in the order of the network's classes."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:
        """The examples of a part, in a fixed order; none where the dataset lacks the part.

        Each `view` sees them anew where the dataset can make frames, as for every epoch of a
        training. Raises ModellingError where the dataset cannot be read.
        """


class Digits:
    """The 1797 handwritten digits that scikit-learn ships, as frames of a camera.

    Of each digit 36 scans are for testing and 18 for validation, drawn by a fixed seed; all others
    are for training.
    """

    TEST_PER_DIGIT = 36
    VALID_PER_DIGIT = 18
    SEED = 10

    def __init__(self) -> None:
        # Where an engine only serves, scikit-learn need not be there.
        try:
            from sklearn.datasets import load_digits  # noqa: PLC0415
        except ImportError as error:
            raise ModellingError(
                "the digits come with scikit-learn: install it with `pip install 'delen[train]'`"
            ) from error
        bunch = load_digits()
        self._scans: NDArray[np.float64] = bunch.images
        self._digits: NDArray[np.int64] = bunch.target
        self._parts = self._drawn()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:
        return [self._example(number, view) for number in self._parts[part]]

    def _example(self, number: int, view: int) -> Example:
        return Example(
            name=f"{number:04d}.jpg",
            label=str(self._digits[number]),
            read=partial(digit_frames.jpeg_of, self._scans[number], number=number, view=view),
        )

    def _drawn(self) -> dict[Part, list[int]]:
        rng = np.random.default_rng(self.SEED)
        parts: dict[Part, list[int]] = {part: [] for part in Part}
        held_out = self.TEST_PER_DIGIT + self.VALID_PER_DIGIT
        for digit in range(10):
            numbers = rng.permutation(np.flatnonzero(self._digits == digit)).tolist()
            parts[Part.TEST] += numbers[: self.TEST_PER_DIGIT]
            parts[Part.VALID] += numbers[self.TEST_PER_DIGIT : held_out]
            parts[Part.TRAIN] += numbers[held_out:]
        return {part: sorted(numbers) for part, numbers in parts.items()}


class ClassFolders:
    """A folder of frames in sub-folders named by label: `LABEL/FRAME`.

    With sub-folders `train`, `valid` or `test` these are the parts, each of class sub-folders;
    without them, all of it is for testing.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModellingError(
                f"there is no folder {folder}: name one that holds a sub-folder of frames for each"
                " label"
            )
        roots = {part: folder / part.value for part in Part if (folder / part.value).is_dir()}
        self._roots = roots or {Part.TEST: folder}
        self._labels = {part: _sub_folders(root) for part, root in self._roots.items()}
        if not any(self._labels.values()):
            raise ModellingError(f"{folder} holds no sub-folders: make one for each label")

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({label for labels in self._labels.values() for label in labels}))

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:  # noqa: ARG002 - files have one view
        if part not in self._roots:
            return []
        return [
            example
            for label in self._labels[part]
            for example in _examples_of(self._roots[part] / label)
        ]


NAMED: dict[str, Callable[[], Dataset]] = {"digits": Digits}
"""The datasets that have a name of their own."""


def open_dataset(name: str | None, folder: Path | None) -> Dataset:
    """The dataset of this name, or the one in a folder. Raises ModellingError."""
    if folder is not None:
        return ClassFolders(folder)
    if name is None:
        raise ModellingError(
            "no dataset is named: choose one with --dataset, or name a folder with --dataset-dir"
        )
    if name not in NAMED:
        raise ModellingError(
            f"there is no dataset {name}: choose {' or '.join(NAMED)}, or name a folder with"
            " --dataset-dir"
        )
    return NAMED[name]()


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Decoded examples: `inputs` of shape (N, *input.shape), `classes` of shape (N,)."""

    inputs: NDArray[Any]
    classes: NDArray[np.int64]


def batches(
    examples: Sequence[Example],
    size: int,
    *,
    labels: Sequence[str],
    spec: InputSpec,
    kind: Kind,
) -> Iterator[Batch]:
    """The examples in order, `size` at a time, decoded as the appliance decodes frames.

    Raises ModellingError for a frame that cannot be decoded, and for one whose label is not among
    `labels`.
    """
    class_of = {label: number for number, label in enumerate(labels)}
    for start in range(0, len(examples), size):
        chosen = examples[start : start + size]
        yield Batch(
            inputs=np.concatenate([_decode(example, spec, kind) for example in chosen]),
            classes=np.array([_class(example, class_of) for example in chosen], dtype=np.int64),
        )


def _decode(example: Example, spec: InputSpec, kind: Kind) -> NDArray[Any]:
    try:
        return frames.decode(example.read(), None, spec, kind)
    except Rejected as error:
        raise ModellingError(f"{example.name} is no frame to learn from: {error}") from error
    except OSError as error:
        raise ModellingError(f"{example.name} cannot be read: {error}") from error


def _class(example: Example, class_of: dict[str, int]) -> int:
    if example.label not in class_of:
        raise ModellingError(
            f"{example.name} has the label {example.label}, which is none of"
            f" {', '.join(class_of)}: move it, or train with that label"
        )
    return class_of[example.label]


def _sub_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in _visible(folder) if path.is_dir())


def _examples_of(folder: Path) -> list[Example]:
    paths = sorted(path for path in _visible(folder) if path.is_file())
    if not paths:
        raise ModellingError(f"{folder} is empty: put frames of {folder.name} there, or remove it")
    return [Example(name=str(path), label=folder.name, read=path.read_bytes) for path in paths]


def _visible(folder: Path) -> Iterator[Path]:
    """What a folder holds, without the hidden files that desktops leave."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))
