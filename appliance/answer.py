"""What an exit says to a frame, read from its logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An exit's distribution over the classes, and what conditions ask of it.

    `entropy` is in nats, `margin` the distance between the two most likely classes,
    `expected_accuracy` the confidence after temperature scaling (Guo et al. 2017).
    """

    probabilities: NDArray[np.float32]
    confidence: float
    margin: float
    entropy: float
    expected_accuracy: float


def read_answer(logits: NDArray[np.float32], temperature: float) -> Answer | None:
    """The answer in logits, shape (classes,); None where one of them is NaN or infinite."""
    if not np.isfinite(logits).all():
        return None
    # The largest becomes 0, so that no exponential overflows, and that of its own is 1.
    shifted = logits - np.maximum.reduce(logits)
    exponentials = np.exp(shifted)
    whole = float(np.add.reduce(exponentials))
    probabilities: NDArray[np.float32] = exponentials / np.float32(whole)
    confidence = 1.0 / whole
    calibrated = np.exp(shifted / np.float32(temperature))
    return Answer(
        probabilities=probabilities,
        confidence=confidence,
        margin=confidence - _runner_up(exponentials) / whole,
        # -sum p log p, where log p is what was shifted less the logarithm of the whole.
        entropy=max(0.0, math.log(whole) - float(probabilities @ shifted)),
        expected_accuracy=1.0 / float(np.add.reduce(calibrated)),
    )


def _runner_up(exponentials: NDArray[np.float32]) -> float:
    if len(exponentials) == 1:
        return 0.0
    return float(np.partition(exponentials, -2)[-2])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distribution over the classes, shape (classes,), that finite logits stand for."""
    exponentials: NDArray[np.float32] = np.exp(logits - logits.max())
    exponentials /= exponentials.sum()
    return exponentials
