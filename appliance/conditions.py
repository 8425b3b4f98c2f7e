"""The condition language: comparisons of metrics under all, any and not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from appliance.errors import Fault, Faulty, KeyPath
from appliance.quantities import Dimension, QuantityError, format_quantity, parse_quantity


class ExitMetrics(NamedTuple):
    """What is known of a task after an exit. Times in s, energy in J; None: not profiled."""

    response_time: float
    """Since the frame arrived at the appliance."""
    confidence: float
    """Of the most likely class (softmax)."""
    accuracy: float | None
    """The exit's, as profiled."""
    energy: float | None
    """What the request has cost up to this exit."""
    computation: float | None
    """What was calculated up to this exit."""
    exit: int
    """Which it is, from 0."""
    entropy: float
    """That of the answer's distribution, in nats."""
    margin: float
    """The distance between the two most likely classes."""
    expected_accuracy: float
    """The confidence after temperature scaling (Guo et al. 2017)."""
    next_response_time: float | None
    """What `response_time` would be at the next exit."""
    next_energy: float | None
    """What `energy` would be at the next exit."""


class TenantMetrics(NamedTuple):
    """What is known of a tenant and the device, for adaptation. SI units, degrees Celsius."""

    arrival_rate: float | None
    """How fast its requests came in the last 10 seconds."""
    queue_length: float | None
    """How many of its requests wait now."""
    queue_delay: float | None
    """How long those waited that were answered in the last 10 seconds, on average."""
    p95_response_time: float | None
    """That of its answers in the last 10 seconds, the 95th percentile."""
    energy_per_hour: float | None
    """What it would spend in an hour at the rate of the last minute."""
    budget_remaining: float | None
    """What is left of its own budget, else of its part of the device's."""
    power: float | None
    """All that the meter sees."""
    temperature: float | None
    """That of the hottest zone."""


class Scope(Enum):
    """Where a condition is asked, and so which metrics it may name."""

    EXIT = ExitMetrics._fields
    TENANT = TenantMetrics._fields


DIMENSIONS: dict[str, Dimension] = {
    "response_time": Dimension.TIME,
    "confidence": Dimension.RATIO,
    "accuracy": Dimension.RATIO,
    "energy": Dimension.ENERGY,
    "computation": Dimension.COMPUTATION,
    "exit": Dimension.COUNT,
    "entropy": Dimension.NUMBER,
    "margin": Dimension.RATIO,
    "expected_accuracy": Dimension.RATIO,
    "next_response_time": Dimension.TIME,
    "next_energy": Dimension.ENERGY,
    "arrival_rate": Dimension.RATE,
    "queue_length": Dimension.COUNT,
    "queue_delay": Dimension.TIME,
    "p95_response_time": Dimension.TIME,
    "energy_per_hour": Dimension.ENERGY,
    "budget_remaining": Dimension.RATIO,
    "power": Dimension.POWER,
    "temperature": Dimension.TEMPERATURE,
}


class Op(Enum):
    """A comparison; the value is its name in Dělen's own JSON form."""

    LESS = "less"
    """Below the threshold."""
    LESS_EQ = "less_eq"
    """Below it or equal."""
    EQUAL = "equal"
    """Equal to it, to the last digit."""
    GREATER = "greater"
    """Above it."""
    GREATER_EQ = "greater_eq"
    """Above it or equal."""
    NULL = "null"
    """Whatever: it never holds, as in Dělen, and the exit is passed by."""


SYMBOLS = {
    "<": Op.LESS,
    "<=": Op.LESS_EQ,
    "==": Op.EQUAL,
    ">": Op.GREATER,
    ">=": Op.GREATER_EQ,
}
"""The comparisons as they are written in an expression."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`metric op threshold`, the threshold in SI."""

    metric: str
    op: Op
    threshold: float


@dataclass(frozen=True, slots=True)
class All:
    """True where every one of the conditions is."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True where at least one of the conditions is."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where the condition is not."""

    condition: Condition


Condition = Comparison | All | AnyOf | Not
Predicate = Callable[[Sequence[Any]], bool]
"""Asks a compiled condition of an ExitMetrics or TenantMetrics; TypeError where one is None."""


def parse(value: object, scope: Scope = Scope.EXIT) -> Condition:
    """A condition from what a YAML or JSON document holds: an expression, Dělen's form, or a tree.

    Raises Faulty with everything that is wrong in it, each fault with its path below `value`.
    """
    faults: list[Fault] = []
    condition = _parse(value, scope, (), faults)
    if faults or condition is None:
        raise Faulty(faults)
    return condition


def _parse(value: object, scope: Scope, path: KeyPath, faults: list[Fault]) -> Condition | None:
    if isinstance(value, str):
        return _parse_expression(value, scope, path, faults)
    if isinstance(value, dict) and "metric" in value:
        return _parse_seed_form(value, scope, path, faults)
    if isinstance(value, dict) and len(value) == 1:
        ((word, inner),) = value.items()
        below = (*path, word)
        if word in ("all", "any"):
            return _parse_several(word, inner, scope, below, faults)
        if word == "not":
            condition = _parse(inner, scope, below, faults)
            return None if condition is None else Not(condition)
    faults.append(
        Fault(
            path=path,
            message="a condition is an expression such as `confidence >= 0.9`, or one of"
            " {all: [...]}, {any: [...]}, {not: ...}, {metric: ..., op: ..., threshold: ...}",
        )
    )
    return None


def _parse_several(
    word: str, value: object, scope: Scope, path: KeyPath, faults: list[Fault]
) -> Condition | None:
    if not isinstance(value, list) or not value:
        faults.append(Fault(path=path, message=f"`{word}` takes a list of one condition or more"))
        return None
    parsed = [_parse(item, scope, (*path, index), faults) for index, item in enumerate(value)]
    conditions = tuple(condition for condition in parsed if condition is not None)
    return All(conditions) if word == "all" else AnyOf(conditions)


_EXPRESSION = re.compile(r"\s*(\w+)\s*([<>=!]+)\s*(.*?)\s*", re.DOTALL)

MAX_EXPRESSION = 256
"""How many characters a comparison may have: matching a long one could take for ever."""


def _parse_expression(
    text: str, scope: Scope, path: KeyPath, faults: list[Fault]
) -> Comparison | None:
    match = _EXPRESSION.fullmatch(text) if len(text) <= MAX_EXPRESSION else None
    if match is None:
        message = f"{text!r} is no comparison: write `metric op threshold`, as `confidence >= 0.9`"
        faults.append(Fault(path=path, message=message))
        return None
    metric, symbol, threshold = match.groups()
    if re.search(r"\s(and|or|not)\s", threshold, re.IGNORECASE):
        message = "one comparison at a time: write {all: [...]} for and, {any: [...]} for or"
        faults.append(Fault(path=path, message=message))
        return None
    op = SYMBOLS.get(symbol)
    if op is None:
        message = f"unknown comparison {symbol!r}: use one of {' '.join(SYMBOLS)}"
        faults.append(Fault(path=path, message=message))
    return _comparison(metric, op, threshold, scope, (path, path), faults)


def _parse_seed_form(
    value: dict[object, object], scope: Scope, path: KeyPath, faults: list[Fault]
) -> Comparison | None:
    found = len(faults)
    faults.extend(
        Fault(path=(*path, str(key)), message=f"unknown field {key!r}")
        for key in value
        if key not in ("metric", "op", "threshold")
    )
    metric, name = str(value["metric"]).lower(), value.get("op")
    # YAML reads an unquoted null as nothing at all; here it is the name of an op.
    name = "null" if name is None and "op" in value else str(name).lower()
    op = next((op for op in Op if op.value == name), None)
    if op is None:
        message = f"unknown op {name!r}: use one of {', '.join(op.value for op in Op)}"
        faults.append(Fault(path=(*path, "op") if "op" in value else path, message=message))
    if "threshold" not in value and op is not Op.NULL:
        faults.append(Fault(path=path, message="`threshold` is missing"))
        return None
    threshold = value.get("threshold", 0)
    places = ((*path, "metric"), (*path, "threshold"))
    comparison = _comparison(metric, op, threshold, scope, places, faults)
    return comparison if len(faults) == found else None


def _comparison(  # noqa: PLR0913 - the one place where both forms meet
    metric: str,
    op: Op | None,
    threshold: object,
    scope: Scope,
    places: tuple[KeyPath, KeyPath],
    faults: list[Fault],
) -> Comparison | None:
    if metric not in scope.value:
        faults.append(Fault(path=places[0], message=_unknown_metric(metric, scope)))
        return None
    try:
        number = parse_quantity(threshold, DIMENSIONS[metric])
    except QuantityError as error:
        faults.append(Fault(path=places[1], message=f"{metric}: {error}"))
        return None
    return None if op is None else Comparison(metric, op, number)


def _unknown_metric(metric: str, scope: Scope) -> str:
    if metric in DIMENSIONS:
        where = "after an exit" if scope is Scope.EXIT else "of a tenant"
        return f"the metric `{metric}` is not known {where}; known: {', '.join(scope.value)}"
    close = difflib.get_close_matches(metric, scope.value, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(scope.value)}"
    return f"unknown metric `{metric}`: {hint}"


def explain(condition: Condition) -> str:
    """The condition in one line, as a person would say it."""
    match condition:
        case Comparison(_, Op.NULL, _):
            return "never"
        case Comparison(metric, op, threshold):
            symbol = next(symbol for symbol, named in SYMBOLS.items() if named is op)
            return f"{metric} {symbol} {format_quantity(threshold, DIMENSIONS[metric])}"
        case All(conditions):
            return " and ".join(_bracketed(inner) for inner in conditions)
        case AnyOf(conditions):
            return " or ".join(_bracketed(inner) for inner in conditions)
        case Not(inner):
            return f"not {_bracketed(inner)}"


def _bracketed(condition: Condition) -> str:
    text = explain(condition)
    return text if isinstance(condition, Comparison) else f"({text})"


_SEED_UNITS = {"energy": 1e-3, "next_energy": 1e-3, "computation": 1e9}


def in_seed_units(condition: Condition) -> Condition:
    """A condition whose numbers were meant as Dělen's own profiles are: mJ and GFLOP."""
    match condition:
        case Comparison(metric, op, threshold):
            return Comparison(metric, op, threshold * _SEED_UNITS.get(metric, 1.0))
        case All(conditions):
            return All(tuple(in_seed_units(inner) for inner in conditions))
        case AnyOf(conditions):
            return AnyOf(tuple(in_seed_units(inner) for inner in conditions))
        case Not(inner):
            return Not(in_seed_units(inner))


_COMPARE: dict[Op, Callable[[int, float], Predicate]] = {
    Op.LESS: lambda index, threshold: lambda metrics: metrics[index] < threshold,
    Op.LESS_EQ: lambda index, threshold: lambda metrics: metrics[index] <= threshold,
    Op.EQUAL: lambda index, threshold: lambda metrics: _equal(metrics[index], threshold),
    Op.GREATER: lambda index, threshold: lambda metrics: metrics[index] > threshold,
    Op.GREATER_EQ: lambda index, threshold: lambda metrics: metrics[index] >= threshold,
    Op.NULL: lambda _index, _threshold: lambda _metrics: False,
}


def _equal(value: float | None, threshold: float) -> bool:
    # None == 0.5 would be false, and pass under a `not`; the other comparisons raise by themselves.
    if value is None:
        raise TypeError("the metric is not known here")
    return value == threshold


def compile_condition(condition: Condition, scope: Scope = Scope.EXIT) -> Predicate:
    """A predicate over the scope's metrics, made of closures so that asking it costs little."""
    match condition:
        case Comparison(metric, op, threshold):
            return _COMPARE[op](scope.value.index(metric), threshold)
        case All(conditions):
            return _every([compile_condition(inner, scope) for inner in conditions])
        case AnyOf(conditions):
            return _some([compile_condition(inner, scope) for inner in conditions])
        case Not(inner):
            predicate = compile_condition(inner, scope)
            return lambda metrics: not predicate(metrics)


def _every(predicates: list[Predicate]) -> Predicate:
    def every(metrics: Sequence[Any]) -> bool:
        for predicate in predicates:  # noqa: SIM110 - a generator would double the cost
            if not predicate(metrics):
                return False
        return True

    return every


def _some(predicates: list[Predicate]) -> Predicate:
    def some(metrics: Sequence[Any]) -> bool:
        for predicate in predicates:  # noqa: SIM110 - a generator would double the cost
            if predicate(metrics):
                return True
        return False

    return some
