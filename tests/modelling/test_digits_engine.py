"""The engine that comes with the appliance."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.modelling.datasets import (
    Digits,
    HeldOutFrames,
    Part,
)
from appliance.modelling.profiling.answers import answers

DIGITS = Path("engines/digits")


def test_the_digits_engine_is_as_accurate_as_its_manifest_says() -> None:
    engine = manifest.load(DIGITS)
    examples = HeldOutFrames(DIGITS / "frames").examples(Part.TEST)

    with OnnxBackend(engine) as backend:
        measured = answers(engine, backend, examples)

    accuracies = [measured.accuracy(exit_) for exit_ in range(4)]
    assert accuracies == pytest.approx([stage.accuracy for stage in engine.stages], abs=0.003)
    assert accuracies[3] >= 0.97


def test_no_exit_of_the_digits_engine_is_dominated() -> None:
    assert manifest.load(DIGITS).dominated_exits == ()


def test_the_frames_of_the_digits_engine_are_the_held_out_ones() -> None:
    committed = {path.name: path.read_bytes() for path in (DIGITS / "frames").rglob("*.jpg")}
    held_out = {example.name: example.read() for example in Digits().examples(Part.TEST)}

    differences = [
        np.abs(_pixels(committed[name]) - _pixels(held_out[name])).mean() for name in committed
    ]

    assert committed.keys() == held_out.keys()
    # Another version of the JPEG library may round otherwise.
    assert max(differences) < 2.0


def test_the_digits_engine_is_small_enough_to_keep_in_the_repository() -> None:
    sizes_bytes = [path.stat().st_size for path in DIGITS.rglob("*") if path.is_file()]

    assert sum(sizes_bytes) < 4_000_000


def _pixels(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.float32)
