"""Frames to calibrate and check plans with: the engine's own, as its sensors' would be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance import frames
from appliance.engine import Engine
from appliance.errors import ModellingError, Rejected

MOST_FRAMES = 64

T = TypeVar("T")


def calibration_frames(engine: Engine, folder: Path | None) -> list[NDArray[Any]]:
    """Decoded frames, shape (1, *input) each, from a folder or the engine's own `frames`.

    None where there are none. Raises ModellingError where one cannot be decoded.
    """
    folder = engine.folder / "frames" if folder is None else folder
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    decoded = []
    for path in spread(paths, MOST_FRAMES):
        try:
            decoded.append(frames.decode(path.read_bytes(), None, engine.input, engine.kind))
        except (OSError, Rejected) as error:
            raise ModellingError(f"{path} is no frame for {engine.name}: {error}") from error
    return decoded


def noise(engine: Engine, count: int) -> list[NDArray[Any]]:
    """Frames of noise, where there are none to check with."""
    random = np.random.default_rng(0)
    shape = (1, *engine.input.shape)
    return [random.random(shape).astype(engine.input.dtype) for _ in range(count)]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly over the whole: folders are sorted by class."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]
