"""How far an engine's TensorRT plans are from ONNX Runtime, exit by exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.backends.onnx import OnnxBackend
from appliance.backends.protocol import Backend
from appliance.engine import Engine, Precision
from appliance.errors import ModellingError

TOLERANCES = {Precision.FP32: 0.005, Precision.FP16: 0.02, Precision.INT8: 0.1}
"""How far an exit's logits may be off, as a fraction of the largest; FP32 has room for TF32."""

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitError:
    """How far an exit's answers with all plans up to it are from ONNX Runtime's."""

    error: float
    """The largest difference of two logits, as a fraction of the largest logit."""
    agreement: float
    """The fraction of frames that get the same class."""


def compare(engine: Engine, frames: Sequence[NDArray[Any]], batch: int) -> tuple[ExitError, ...]:
    """Runs frames, shape (1, *input) each, through both, the plans in such batches."""
    from appliance.backends.tensorrt import TensorRTBackend  # noqa: PLC0415 - where there is TensorRT

    with OnnxBackend(engine) as reference:
        wanted = _answers(engine, reference, frames, 1)
    with TensorRTBackend(engine) as backend:
        found = _answers(engine, backend, frames, batch)
    return tuple(exit_error(a, b) for a, b in zip(wanted, found, strict=True))


def _answers(
    engine: Engine, backend: Backend, frames: Sequence[NDArray[Any]], batch: int
) -> list[Logits]:
    """The logits of all frames at each exit, shape (frames, classes), run in such batches."""
    answers: list[list[Logits]] = [[] for _ in engine.stages]
    for start in range(0, len(frames), batch):
        features: Sequence[Any] = [backend.feed(frame) for frame in frames[start : start + batch]]
        for number in range(len(engine.stages)):
            logits, features = backend.run(number, features)
            answers[number].append(logits)
    return [np.concatenate(parts) for parts in answers]


def require_close(engine: Engine, errors: Sequence[ExitError], tolerance: float) -> None:
    """Raises ModellingError that names the exits which are off by more."""
    off = [f"exit {n} by {e.error:.2%}" for n, e in enumerate(errors) if not e.error <= tolerance]
    if off:
        raise ModellingError(
            f"the plans of {engine.name} are off by more than {tolerance:.2%} of the largest logit,"
            f" so they are not used: {', '.join(off)}. Choose a greater precision, other frames to"
            " calibrate with, or a --tolerance that these errors keep"
        )


def exit_error(reference: Logits, found: Logits) -> ExitError:
    """Compares two sets of logits, shape (frames, classes) each."""
    largest = float(np.abs(reference).max()) or 1.0
    difference = np.abs(found - reference)
    # What is no number is infinitely far off, rather than compared as smaller than anything.
    error = float(difference.max()) / largest if np.isfinite(difference).all() else float("inf")
    agreement = float((reference.argmax(axis=1) == found.argmax(axis=1)).mean())
    return ExitError(error=error, agreement=agreement)
