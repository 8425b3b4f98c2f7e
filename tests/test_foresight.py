"""What is known of a decision before anything has run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.conditions import Condition, compile_condition, parse
from appliance.foresight import NEVER, Outcome, outcomes
from appliance.plan import Plan, StoppedBy
from tests.factories import a_plan, an_engine, metrics_at
from tests.test_conditions import conditions

UNPROFILED = an_engine(accuracies=(None, 0.5, None, 0.9), energies_j=(None,) * 4)

GOAL = "goal: {maximize: accuracy, subject_to: [p95_response_time <= 1s]}"

CONDITIONS = (
    "exit >= 0",
    "exit >= 2",
    "confidence >= 0.9",
    "accuracy >= 0.7",
    "response_time > 15ms",
    "next_energy > 100mJ",
    {"all": ["confidence >= 0.5", "exit >= 2"]},
    {"any": ["exit >= 3", "computation > 2.5 GFLOP"]},
    {"not": "exit < 2"},
    {"metric": "confidence", "op": "null", "threshold": 0},
)


@pytest.mark.parametrize(
    ("condition", "exit_", "expected"),
    [
        ("exit >= 2", 1, NEVER),
        ("exit >= 2", 2, {Outcome.TRUE}),
        ("confidence >= 0.9", 1, {Outcome.TRUE, Outcome.FALSE}),
        ("energy < 1J", 1, {Outcome.TRUE, Outcome.FALSE, Outcome.ERROR}),
        ({"all": ["confidence >= 0.9", "exit >= 2"]}, 1, NEVER),
        ({"all": ["energy < 1J", "exit >= 2"]}, 1, {Outcome.FALSE, Outcome.ERROR}),
        ({"any": ["exit >= 1", "energy < 1J"]}, 1, {Outcome.TRUE}),
        ({"not": {"any": ["exit < 2", "confidence >= 0.9"]}}, 1, NEVER),
    ],
)
def test_a_condition_comes_to_no_more_than_its_parts_allow(
    condition: object, exit_: int, expected: set[Outcome]
) -> None:
    assert outcomes(parse(condition), an_engine(), exit_) == expected


def test_what_is_asked_of_an_unprofiled_metric_is_an_error() -> None:
    assert outcomes(parse("accuracy >= 0.7"), UNPROFILED, 0) == {Outcome.ERROR}


known = st.fixed_dictionaries(
    {
        "response_time": st.floats(0, 1),
        "confidence": st.floats(0, 1),
        "energy": st.none() | st.floats(0, 1),
        "entropy": st.floats(0, 1),
        "margin": st.floats(0, 1),
        "expected_accuracy": st.floats(0, 1),
        "next_response_time": st.none() | st.floats(0, 1),
        "next_energy": st.none() | st.floats(0, 1),
    }
)


@given(conditions, st.integers(0, 3), known)
def test_whatever_a_condition_comes_to_was_foreseen(
    condition: Condition, exit_: int, answer: dict[str, Any]
) -> None:
    metrics = metrics_at(exit_, engine=UNPROFILED, **answer)
    try:
        outcome = Outcome.TRUE if compile_condition(condition)(metrics) else Outcome.FALSE
    except TypeError:
        outcome = Outcome.ERROR

    assert outcome in outcomes(condition, UNPROFILED, exit_)


@pytest.mark.parametrize(
    ("policy", "firsts"),
    [
        ("exit_when: exit >= 0", (0, 1, 2, 3)),
        ("exit_when: exit >= 2", (2, 2, 2, 3)),
        ("exit_when: {all: [exit >= 1, confidence >= 0.9]}", (1, 1, 2, 3)),
        # The last exit of this engine is no better than the one before it.
        ("", (2, 2, 2, 3)),
        ("bounds: {accuracy: 0.7}\nexit_when: confidence >= 0.9", (2, 2, 2, 3)),
        ("bounds: {agreement: 99%}", (0, 1, 2, 3)),
        (f"bounds: {{accuracy: 0.6}}\n{GOAL}", (1, 1, 2, 3)),
    ],
)
def test_exits_are_passed_by_where_no_answer_could_stop_a_task(
    policy: str, firsts: tuple[int, ...]
) -> None:
    assert a_plan(policy).first_answers == firsts


@given(
    st.sampled_from([None, *CONDITIONS]),
    st.none() | st.sampled_from([0.4, 0.6, 0.766, 0.99]),
    st.integers(0, 3),
    known,
)
def test_no_answer_stops_a_task_at_an_exit_that_is_passed_by(
    condition: object, floor: float | None, stage: int, answer: dict[str, Any]
) -> None:
    text = "" if condition is None else f"exit_when: {condition!r}\n"
    plan = a_plan(text + ("" if floor is None else f"bounds: {{accuracy: {floor}}}\n"))
    first = plan.first_answers[stage]

    stops = [decided(plan, exit_, answer) for exit_ in range(stage, first)]

    assert not [stop for stop in stops if isinstance(stop, StoppedBy)]


def decided(plan: Plan, exit_: int, answer: dict[str, Any]) -> object:
    metrics = metrics_at(exit_, engine=plan.engine, **answer)
    return plan.decide(
        metrics, stage_times_s=(0.01,) * 4, stage_energies_j=(0.01,) * 4, response_time_bound_s=None
    )
