"""Frames with known labels: what networks are trained, calibrated and measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance import frames
from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError, Rejected


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

    @property
    def kind(self) -> Kind:
        """What the frames hold."""

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:
        """The examples of a part, in a fixed order; none where the dataset lacks the part.

        Each `view` sees them anew where the dataset can make frames, as for every epoch of a
        training. Raises ModellingError where the dataset cannot be read.
        """


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
        raise ModellingError(
            f"{example.name} is no frame to learn from: {error}. Mend it, or remove it"
        ) from error
    except OSError as error:
        raise ModellingError(f"{example.name} cannot be read: {error}") from error


def _class(example: Example, class_of: dict[str, int]) -> int:
    if example.label not in class_of:
        raise ModellingError(
            f"{example.name} has the label {example.label}, which is none of"
            f" {', '.join(class_of)}: move it, or train with that label"
        )
    return class_of[example.label]
