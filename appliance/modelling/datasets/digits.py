"""Handwritten digits, as frames of a camera."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from appliance.engine import Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets import digit_frames
from appliance.modelling.datasets.dataset import Example, Part

DESCRIPTION = "handwritten digits, which scikit-learn ships; needs no folder"


class Digits:
    """The 1797 handwritten digits that scikit-learn ships, as frames of a camera.

    Of each digit 36 scans are for testing and 18 for validation, drawn by a fixed seed; all others
    are for training.
    """

    TEST_PER_DIGIT = 36
    VALID_PER_DIGIT = 18
    SEED = 10

    kind = Kind.IMAGE

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
