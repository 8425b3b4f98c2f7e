"""The condition language: what is written is what is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.conditions import (
    DIMENSIONS,
    All,
    AnyOf,
    Comparison,
    Condition,
    ExitMetrics,
    Not,
    Op,
    Scope,
    TenantMetrics,
    compile_condition,
    explain,
    in_seed_units,
    parse,
)
from appliance.errors import Faulty

METRICS = ExitMetrics(
    response_time=0.025,
    confidence=0.8,
    accuracy=0.7,
    energy=0.1,
    computation=2e9,
    exit=1,
    entropy=0.5,
    margin=0.6,
    expected_accuracy=0.75,
    next_response_time=0.04,
    next_energy=0.2,
)


def holds(value: object, metrics: ExitMetrics = METRICS) -> bool:
    return compile_condition(parse(value))(metrics)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("confidence >= 0.8", True),
        ("confidence > 80%", False),
        ("response_time > 20ms", True),
        ("response_time <= 25000us", True),
        ("energy < 99mJ", False),
        ("exit == 1", True),
        ("computation >= 2GFLOP", True),
        ("next_response_time < 0.05", True),
        ({"metric": "response_time", "op": "greater", "threshold": 0.02}, True),
        ({"metric": "CONFIDENCE", "op": "LESS_EQ", "threshold": "0.5"}, False),
        ({"metric": "exit", "op": "null", "threshold": 0}, False),
        ({"metric": "exit", "op": None}, False),
        ({"all": ["exit >= 1", "margin > 0.5"]}, True),
        ({"all": ["exit >= 1", "margin > 0.7"]}, False),
        ({"any": ["exit >= 2", "margin > 0.5"]}, True),
        ({"not": {"any": ["exit >= 2", {"not": "entropy < 1"}]}}, True),
    ],
)
def test_a_condition_is_true_when_it_says_so(condition: object, expected: bool) -> None:  # noqa: FBT001
    assert holds(condition) is expected


@pytest.mark.parametrize(
    ("condition", "path", "said"),
    [
        ("confidenc > 0.5", (), "did you mean `confidence`?"),
        ("confidence > 90", (), "is not a fraction"),
        ("confidence = 0.5", (), "unknown comparison '='"),
        ("confidence > 0.5 and exit > 1", (), "one comparison at a time"),
        ("power > 5W", (), "not known after an exit"),
        ("response_time > soon", (), "number with a unit"),
        ("response_time > 5parsecs", (), "unknown unit 'parsecs'"),
        ("exit > 1.5", (), "not a whole number"),
        ("confidence", (), "no comparison"),
        (5, (), "a condition is"),
        ({"all": []}, ("all",), "one condition or more"),
        ({"any": ["exit > 1", "foo > 2"]}, ("any", 1), "unknown metric `foo`"),
        ({"not": {"all": ["bar > 1"]}}, ("not", "all", 0), "unknown metric `bar`"),
        ({"metric": "exit", "op": "above", "threshold": 1}, ("op",), "unknown op"),
        ({"metric": "exit", "op": "less"}, (), "`threshold` is missing"),
        ({"metric": "exit", "op": "less", "threshold": 1, "x": 1}, ("x",), "unknown field"),
        ({"all": ["exit > 1"], "any": ["exit > 1"]}, (), "a condition is"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(
    condition: object, path: tuple[str | int, ...], said: str
) -> None:
    with pytest.raises(Faulty) as faulty:
        parse(condition)

    (fault,) = faulty.value.faults
    assert fault.path == path
    assert said in fault.message


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Faulty) as faulty:
        parse({"all": ["foo > 1", {"any": ["bar > 1", "exit > 1", "baz > 1"]}]})

    assert len(faulty.value.faults) == 3


def test_a_metric_of_a_tenant_is_known_where_tenants_are_asked() -> None:
    condition = parse("budget_remaining < 10%", Scope.TENANT)
    metrics = TenantMetrics(None, None, None, None, None, 0.05, None, None)

    assert compile_condition(condition, Scope.TENANT)(metrics)


@pytest.mark.parametrize("op", ["<", "<=", "==", ">", ">="])
def test_a_metric_that_is_not_known_is_an_error_and_never_false(op: str) -> None:
    unknown = METRICS._replace(energy=None)

    with pytest.raises(TypeError):
        holds({"not": f"energy {op} 1J"}, unknown)


def test_every_metric_has_a_dimension() -> None:
    assert set(DIMENSIONS) == {*ExitMetrics._fields, *TenantMetrics._fields}


def test_delens_units_are_millijoules_and_gigaflop() -> None:
    condition = parse({"all": ["energy > 50", {"not": "computation > 2"}, "exit > 1"]})

    assert explain(in_seed_units(condition)) == (
        "energy > 50 mJ and (not computation > 2 GFLOP) and exit > 1"
    )


conditions = st.recursive(
    st.builds(
        Comparison,
        st.sampled_from(ExitMetrics._fields),
        st.sampled_from(list(Op)),
        st.floats(0, 1, allow_nan=False),
    ),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(All, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


def asked_naively(condition: Condition, metrics: ExitMetrics) -> bool:
    match condition:
        case Comparison(metric, op, threshold):
            value: float = getattr(metrics, metric)
            return {
                Op.LESS: value < threshold,
                Op.LESS_EQ: value <= threshold,
                Op.EQUAL: value == threshold,
                Op.GREATER: value > threshold,
                Op.GREATER_EQ: value >= threshold,
                Op.NULL: False,
            }[op]
        case All(inner):
            return all(asked_naively(each, metrics) for each in inner)
        case AnyOf(inner):
            return any(asked_naively(each, metrics) for each in inner)
        case Not(inner_condition):
            return not asked_naively(inner_condition, metrics)


metrics_at_an_exit = st.builds(
    ExitMetrics, **{name: st.floats(0, 1, allow_nan=False) for name in ExitMetrics._fields}
)


@given(conditions, metrics_at_an_exit)
def test_compiling_changes_nothing_about_the_answer(
    condition: Condition, metrics: ExitMetrics
) -> None:
    assert compile_condition(condition)(metrics) is asked_naively(condition, metrics)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["all", "any", "not", "metric", "op", "threshold", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=10,
    )
)
def test_whatever_is_written_parses_or_is_faulty(value: Any) -> None:
    try:
        condition = parse(value)
    except Faulty as faulty:
        assert faulty.faults  # noqa: PT017 - either outcome is right, nothing else is
    else:
        assert isinstance(explain(condition), str)
