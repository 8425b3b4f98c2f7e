"""Leaving early by a confidence per exit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.engine import Engine, InputSpec, Kind, Latency, Stage
from appliance.errors import ModellingError
from appliance.modelling.profiling.answers import Answers
from appliance.modelling.profiling.thresholds import (
    NEVER,
    TABLE,
    Goal,
    Recording,
    parse_goal,
    record,
    suggest,
    table,
)

EASY_AND_HARD = Recording(
    # Two easy frames, of which the first exit is sure, and two hard ones, of which it is not.
    confidence=np.array([[0.95, 0.9, 0.6, 0.5], [0.99, 0.99, 0.8, 0.7], [1.0, 1.0, 1.0, 1.0]]),
    right=np.array([[True, True, False, False], [True, True, True, False], [True] * 4]),
    latency_s=np.array([1.0, 2.0, 4.0]),
)


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    shape = (draw(st.integers(2, 5)), draw(st.integers(1, 40)))
    times_s = draw(arrays.arrays(np.float64, shape[0], elements=st.floats(0.1, 5.0)))
    return Recording(
        confidence=draw(arrays.arrays(np.float64, shape, elements=st.floats(0.1, 1.0))),
        right=draw(arrays.arrays(np.bool_, shape)),
        latency_s=np.cumsum(times_s),
    )


def test_a_frame_leaves_at_the_first_exit_that_is_sure_enough() -> None:
    outcome = EASY_AND_HARD.leave([0.9, 0.75])

    assert outcome.exit_shares == (0.5, 0.25, 0.25)
    assert outcome.accuracy == 1.0
    assert outcome.latency_s == pytest.approx((1 + 1 + 2 + 4) / 4)


def test_a_confidence_is_calibrated_before_it_is_compared() -> None:
    stage = Stage(temperature=2.0, latency={1: Latency(p50_s=1.0, p95_s=1.0)})
    engine = Engine(
        name="two",
        kind=Kind.TENSOR,
        input=InputSpec(shape=(1,)),
        labels=(),
        stages=(stage, stage),
        folder=Path(),
    )
    logits = np.array([[2.0, 0.0]], np.float32)

    recording = record(engine, Answers(logits=(logits, logits), classes=np.array([0])), 1)

    assert recording.confidence[0, 0] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert recording.latency_s.tolist() == [1.0, 2.0]


def test_the_table_has_a_row_per_threshold_from_a_half_to_nearly_one() -> None:
    rows = table(EASY_AND_HARD)

    assert [row.threshold for row in rows] == list(TABLE)
    assert (TABLE[0], TABLE[-1]) == (0.5, 0.99)
    assert rows[0].exit_shares == (1.0, 0.0, 0.0)


def test_the_suggestion_is_the_fastest_that_keeps_the_goal() -> None:
    outcome = suggest(EASY_AND_HARD, Goal(below_final=0.0))

    assert outcome.accuracy == 1.0
    assert outcome.exit_shares == (0.5, 0.25, 0.25)


def test_a_lower_goal_is_kept_sooner() -> None:
    outcome = suggest(EASY_AND_HARD, Goal(floor=0.5))

    assert outcome.exit_shares == (1.0, 0.0, 0.0)


def test_at_an_unused_exit_nothing_leaves() -> None:
    outcome = suggest(EASY_AND_HARD, Goal(below_final=0.0), unused=[1])

    assert outcome.thresholds[1] == NEVER
    assert outcome.exit_shares == (0.5, 0.0, 0.5)


def test_a_goal_out_of_reach_says_what_is_within() -> None:
    never_right = Recording(
        confidence=np.ones((2, 4)), right=np.zeros((2, 4), bool), latency_s=np.array([1.0, 2.0])
    )

    with pytest.raises(ModellingError, match=r"right in 0\.0% of the frames, so .* 90\.0% is out"):
        suggest(never_right, Goal(floor=0.9))


@given(recordings(), st.floats(0.0, 0.5))
def test_a_suggestion_keeps_its_goal_and_is_never_slower_than_the_last_exit(
    recording: Recording, below: float
) -> None:
    outcome = suggest(recording, Goal(below_final=below))

    assert outcome.accuracy >= recording.final_accuracy - below - 1e-9
    assert outcome.latency_s <= recording.latency_s[-1] + 1e-9


@settings(max_examples=40)
@given(recordings(), st.floats(0.0, 0.3))
def test_no_threshold_for_all_exits_beats_a_suggestion(recording: Recording, below: float) -> None:
    outcome = suggest(recording, Goal(below_final=below))

    floor = recording.final_accuracy - below
    for row in table(recording):
        assert row.accuracy < floor + 0.001 or outcome.latency_s <= 1.001 * row.latency_s


def test_on_noise_a_suggestion_is_nearly_as_fast_as_the_best_of_all_combinations() -> None:
    rng = np.random.default_rng(0)
    confidence = np.sort(rng.random((3, 300)), axis=0)
    right = rng.random((3, 300)) < 0.2 + 0.8 * confidence
    recording = Recording(confidence=confidence, right=right, latency_s=np.array([1.0, 2.0, 3.0]))

    outcome = suggest(recording, Goal(below_final=0.05))

    grid = np.arange(0.3, 1.0, 0.02)
    tried = (recording.leave(pair) for pair in itertools.product(grid, grid))
    best_s = min(o.latency_s for o in tried if o.accuracy >= recording.final_accuracy - 0.05)
    assert outcome.latency_s <= 1.01 * best_s


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("accuracy >= final - 1%", Goal(below_final=0.01)),
        ("accuracy>=final-0.5 %", Goal(below_final=0.005)),
        ("accuracy >= final", Goal(below_final=0.0)),
        ("accuracy >= 97%", Goal(floor=0.97)),
        (" accuracy >= 0.97 ", Goal(floor=0.97)),
    ],
)
def test_a_goal_is_under_the_last_exit_or_absolute(text: str, goal: Goal) -> None:
    parsed = parse_goal(text)

    assert (parsed.below_final, parsed.floor) == pytest.approx((goal.below_final, goal.floor))


@pytest.mark.parametrize(
    "text",
    ["", "fast", "accuracy > 97%", "accuracy >= final - 1", "accuracy >= 97", "accuracy >= ."],
)
def test_another_goal_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ModellingError, match="is no goal: write one such as 'accuracy >= final"):
        parse_goal(text)
