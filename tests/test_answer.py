"""What an exit says, read from its logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.answer import read_answer, softmax

finite = st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=12)


@given(finite, st.floats(0.2, 5.0))
def test_it_says_what_the_definitions_say(values: list[float], temperature: float) -> None:
    logits = np.array(values, np.float32)
    exact = np.exp(logits.astype(np.float64) - max(values))
    exact /= exact.sum()
    largest = sorted(exact)[-2:]

    answer = read_answer(logits, temperature)

    assert answer is not None
    assert answer.probabilities == pytest.approx(exact, abs=1e-5)
    assert answer.confidence == pytest.approx(largest[1], abs=1e-5)
    assert answer.margin == pytest.approx(largest[1] - largest[0], abs=1e-5)
    known = exact[exact > 0.0]
    assert answer.entropy == pytest.approx(-(known @ np.log(known)), abs=1e-4)
    calibrated = softmax(logits / np.float32(temperature))
    assert answer.expected_accuracy == pytest.approx(float(calibrated.max()), abs=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_answer(bad: float) -> None:
    assert read_answer(np.array([0.0, bad], np.float32), 1.0) is None


def test_a_network_of_one_class_is_sure_of_it() -> None:
    answer = read_answer(np.array([3.0], np.float32), 1.0)

    assert answer is not None
    assert (answer.confidence, answer.margin, answer.entropy) == (1.0, 1.0, 0.0)
