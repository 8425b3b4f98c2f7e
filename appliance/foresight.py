"""What a condition may come to before anything has run: by what an engine's profile tells alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, auto

from appliance.conditions import (
    All,
    AnyOf,
    Comparison,
    Condition,
    ExitMetrics,
    Not,
    Op,
    compile_condition,
)
from appliance.engine import Engine


class Outcome(Enum):
    """What asking a condition may come to."""

    TRUE = auto()
    FALSE = auto()
    ERROR = auto()


Outcomes = frozenset[Outcome]

NEVER: Outcomes = frozenset({Outcome.FALSE})
_OPPOSITE = {Outcome.TRUE: Outcome.FALSE, Outcome.FALSE: Outcome.TRUE}

_PROFILED = ("exit", "accuracy", "computation")
"""The metrics that are known of an exit before anything has run."""

_MAY_BE_MISSING = ("energy", "next_response_time", "next_energy")
"""Those that an answer may be without."""


def outcomes(condition: Condition, engine: Engine, exit_: int) -> Outcomes:
    """What a condition may come to at an exit of an engine, whatever the frame is.

    Conditions are asked in the order in which they are written, until one settles it.
    """
    match condition:
        case Comparison():
            return _compared(condition, engine, exit_)
        case All(conditions):
            each = (outcomes(inner, engine, exit_) for inner in conditions)
            return _in_order(each, goes_on=Outcome.TRUE)
        case AnyOf(conditions):
            each = (outcomes(inner, engine, exit_) for inner in conditions)
            return _in_order(each, goes_on=Outcome.FALSE)
        case Not(inner):
            found = outcomes(inner, engine, exit_)
            return frozenset(_OPPOSITE.get(outcome, outcome) for outcome in found)


def _in_order(each: Iterable[Outcomes], *, goes_on: Outcome) -> Outcomes:
    """What asking one after another may come to, where only `goes_on` has the next one asked."""
    settled: set[Outcome] = set()
    for possible in each:
        settled |= possible - {goes_on}
        if goes_on not in possible:
            return frozenset(settled)
    return frozenset(settled | {goes_on})


def _compared(comparison: Comparison, engine: Engine, exit_: int) -> Outcomes:
    if comparison.op is Op.NULL:
        return NEVER
    if comparison.metric in _PROFILED:
        try:
            is_true = compile_condition(comparison)(_profiled(engine, exit_))
        except TypeError:
            return frozenset({Outcome.ERROR})
        return frozenset({Outcome.TRUE if is_true else Outcome.FALSE})
    may_fail = {Outcome.ERROR} if comparison.metric in _MAY_BE_MISSING else set()
    return frozenset({Outcome.TRUE, Outcome.FALSE, *may_fail})


def _profiled(engine: Engine, exit_: int) -> ExitMetrics:
    """The metrics of an exit without those of an answer."""
    return ExitMetrics(
        response_time=math.nan,
        confidence=math.nan,
        accuracy=engine.stages[exit_].accuracy,
        energy=None,
        computation=engine.flops_to[exit_],
        exit=exit_,
        entropy=math.nan,
        margin=math.nan,
        expected_accuracy=math.nan,
        next_response_time=None,
        next_energy=None,
    )
