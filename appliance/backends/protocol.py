"""What every backend does: take a frame in, run one stage for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

Features = Any
"""A backend's own handle on what one item carries from stage to stage."""


class Backend(Protocol):
    """Runs an engine's stages. It is entered, used and left in one thread, the executor's."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def feed(self, tensor: NDArray[Any]) -> Features:
        """Takes a frame in: shape (1, *input.shape), C-contiguous, not changed by the caller."""

    def run(
        self, stage: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        """Runs one stage for what `feed` or the stage before gave, one handle an item.

        Gives the logits, shape (items, classes), and the features for the next stage, one handle
        an item; none after the last stage. Raises EngineError where the stage fails.
        """
