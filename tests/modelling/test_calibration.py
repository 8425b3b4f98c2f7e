"""How far confidence can be believed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from appliance.modelling.profiling.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_softmax,
)


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(20_000, 5)).astype(np.float32)
    cumulated = np.exp(log_softmax(logits)).cumsum(axis=1)
    classes = (cumulated < rng.random((20_000, 1))).sum(axis=1).clip(max=4)

    assert fit_temperature(3 * logits, classes) == pytest.approx(3.0, rel=0.05)


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    sure = np.array([[math.log(9.0), 0.0]] * 10, dtype=np.float32)
    half_of_them_right = np.array([0] * 5 + [1] * 5)

    error = expected_calibration_error(sure, half_of_them_right, 1.0)

    assert error == pytest.approx(0.4, abs=1e-6)
