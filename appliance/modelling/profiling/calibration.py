"""How far an exit's confidence can be believed, and the temperature that makes it so."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""Shape (examples, classes)."""
Classes = NDArray[np.int64]
"""Shape (examples,): the true class of each."""

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
BINS = 15


def fit_temperature(logits: Logits, classes: Classes) -> float:
    """The temperature that makes softmax(logits / temperature) most likely to have been right.

    Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks): one number per
    exit, by which no answer changes. The negative log-likelihood has one minimum in 1/temperature,
    which a golden-section search over the logarithm finds.
    """
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    while high - low > 1e-4:
        nearer, further = high - golden * (high - low), low + golden * (high - low)
        if _loss(logits, classes, nearer) < _loss(logits, classes, further):
            high = further
        else:
            low = nearer
    return math.exp((low + high) / 2.0)


def expected_calibration_error(logits: Logits, classes: Classes, temperature: float) -> float:
    """How far confidence and accuracy lie apart, averaged over 15 bins of equal width.

    The measure of Guo et al. 2017, as a fraction; each bin weighs as many examples as it holds.
    """
    probabilities = np.exp(log_softmax(logits / temperature))
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = [
        abs(float(right[bins == b].mean() - confidence[bins == b].mean()))
        * float((bins == b).mean())
        for b in np.unique(bins)
    ]
    return sum(gaps)


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logarithms of the probabilities, row by row, shape (examples, classes)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _loss(logits: Logits, classes: Classes, log_temperature: float) -> float:
    scaled = log_softmax(logits / math.exp(log_temperature))
    return -float(scaled[np.arange(len(classes)), classes].mean())
