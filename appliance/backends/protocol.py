"""What every backend does: take a frame in, run one stage or several for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

Features = Any
"""A backend's own handle on what one item carries from stage to stage.

It may live while stages run for others, and its item may go on in another batch. The stage that
takes it uses it up, unless it fails. Who needs one no more drops it: a backend may keep memory for
as long as a handle is held, and finds out by itself when nobody holds it.
"""

INPUT, OUTPUT, FEATURES = "input", "output", "features"
"""The names that a stage's tensors have, whatever runs it."""


class Backend(Protocol):
    """Runs an engine's stages.

    It is made in any thread, which may take its time, and entered, used and left in one, the
    executor's, where other engines' stages wait meanwhile.
    """

    name: str
    enqueues: bool
    """Whether stages wait in a device's line, so that one wait serves several back to back."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def feed(self, tensor: NDArray[Any]) -> Features:
        """Takes a frame in: shape (1, *input.shape), C-contiguous, not changed by the caller."""

    def run(
        self, stage: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        """Runs one stage for what `feed` or the stage before gave, one handle an item.

        Gives the logits, shape (items, classes), and the features for the next stage, one handle
        an item; none after the last stage. Raises EngineError where the stage fails; the handles
        can then be given again.
        """

    def run_through(
        self, first: int, last: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        """Runs the stages `first` to `last` back to back, and waits once, for the last of them.

        For a batch that cannot stop at the exits before `last`: gives what `run` gives for that
        stage. Raises EngineError where a stage fails.
        """


def run_one_by_one(
    backend: Backend, first: int, last: int, batch: Sequence[Features]
) -> tuple[NDArray[np.float32], Sequence[Features]]:
    """What `run_through` gives, for a backend whose stages are done when `run` returns."""
    logits, features = backend.run(first, batch)
    for stage in range(first + 1, last + 1):
        logits, features = backend.run(stage, features)
    return logits, features
