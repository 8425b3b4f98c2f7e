"""Food-101, in the layout that it is published in."""

from __future__ import annotations

from pathlib import Path

from appliance.engine import Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets.dataset import Example, Part
from appliance.modelling.datasets.files import (
    drawn,
    example_of,
    files_in,
    lines_of,
    require_folder,
)

SOURCE = "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"
DESCRIPTION = f"101 dishes; --dataset-dir holds images/ and meta/ as unpacked from {SOURCE}"
_ADVICE = (
    f"get food-101.tar.gz from {SOURCE}, unpack it, and name with --dataset-dir the folder that"
    " holds images/CLASS/ID.jpg, meta/classes.txt, meta/train.txt and meta/test.txt"
)


class Food101:
    """Bossard et al. 2014: `images/CLASS/ID.jpg`, and in `meta/` the classes and the split.

    The official test images are for testing; of the training images of every class a fifth is for
    validation, drawn by a fixed seed.
    """

    kind = Kind.IMAGE

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise ModellingError(f"Food-101 is to be had, not shipped: {_ADVICE}")
        require_folder(folder, _ADVICE)
        root = folder / "food-101" if (folder / "food-101").is_dir() else folder
        require_folder(root / "images", _ADVICE)
        meta = root / "meta"
        self._labels = tuple(line.strip() for line in lines_of(meta / "classes.txt", _ADVICE))
        self._listed: dict[str, frozenset[str]] = {}
        self._images = root / "images"
        train, valid = drawn(self._of_list(meta / "train.txt"))
        test = self._of_list(meta / "test.txt")
        self._examples = {Part.TRAIN: train, Part.VALID: valid, Part.TEST: test}
        empty = sorted(set(self._labels) - {example.label for example in train})
        if empty:
            raise ModellingError(
                f"{meta / 'train.txt'} lists no image of {empty[0]}: add some, or take it out of"
                f" {meta / 'classes.txt'}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:  # noqa: ARG002 - files have one view
        return list(self._examples[part])

    def _of_list(self, path: Path) -> list[Example]:
        """The examples that a list names, one `CLASS/ID` a line."""
        found = []
        for number, line in enumerate(lines_of(path, _ADVICE), start=1):
            label, slash, image = line.strip().partition("/")
            if not slash or not image:
                raise ModellingError(f"{path}:{number}: {line!r} is no CLASS/ID")
            if label not in self._labels:
                raise ModellingError(
                    f"{path}:{number}: {label} is no class of {path.with_name('classes.txt')}"
                )
            if f"{image}.jpg" not in self._files_of(label):
                raise ModellingError(
                    f"{path}:{number} lists {line.strip()}, but there is no"
                    f" {self._images / label / image}.jpg: unpack the archive again"
                )
            found.append(example_of(self._images / label, f"{image}.jpg", label))
        return found

    def _files_of(self, label: str) -> frozenset[str]:
        """What a class's folder holds; it is looked into once, not once for every image."""
        if label not in self._listed:
            folder = self._images / label
            self._listed[label] = frozenset(files_in(folder) if folder.is_dir() else ())
        return self._listed[label]
