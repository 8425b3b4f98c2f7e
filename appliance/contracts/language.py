"""Quantities and conditions as JSON Schema: what their parsers read, said as patterns.

A schema is never narrower than its parser. What a pattern cannot say (that 5000 s are beyond an
upper limit, that two constraints exclude each other) is left to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from itertools import groupby
from typing import Any

from appliance.conditions import DIMENSIONS, MAX_EXPRESSION, SYMBOLS, Op, Scope
from appliance.constraints import FALLING, RISING
from appliance.quantities import MAX_CHARACTERS, Dimension, example, units
from appliance.topics import MAX_LEVEL_BYTES, RESERVED_NAMES

Schema = dict[str, Any]

_DIGITS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_ZERO = r"(?:0+\.?0*|\.0+)"
_NOT_ZERO = r"(?:0*[1-9][0-9]*\.?[0-9]*|0*\.0*[1-9][0-9]*)"
_EXPONENT = r"(?:[eE][-+]?[0-9]+)"


class Sign(Enum):
    """How low a number may be; the value is what its definition's name begins with."""

    ANY = ""
    NOT_NEGATIVE = "NotNegative"
    POSITIVE = "Positive"


_NUMBERS = {
    Sign.ANY: rf"[-+]?{_DIGITS}{_EXPONENT}?",
    Sign.NOT_NEGATIVE: rf"(?:\+?{_DIGITS}|-{_ZERO}){_EXPONENT}?",
    Sign.POSITIVE: rf"\+?{_NOT_ZERO}{_EXPONENT}?",
}
_WHOLE = rf"[-+]?(?:[0-9]+(?:\.0*)?|\.0+|{_DIGITS}{_EXPONENT})"
_SCIENTIFIC = rf"{_DIGITS}{_EXPONENT}"
_FRACTION = (
    rf"(?:\+?(?:{_ZERO}|0*\.[0-9]+|0*1\.?0*|{_SCIENTIFIC})|-{_ZERO}{_EXPONENT}?"
    rf"|(?:\+?(?:0*[0-9]{{1,2}}(?:\.[0-9]*)?|\.[0-9]+|0*100\.?0*|{_SCIENTIFIC})|-{_ZERO}{_EXPONENT}?)\s*%)"
)
"""From 0 to 1, or from 0% to 100%; what has an exponent is left to the parser."""

SAID = "patternErrorMessage"
"""What VS Code and the YAML language server say in the place of a pattern that is not matched."""

STEERABLE = tuple(sorted(RISING | FALLING))
STEERABLE_SYMBOLS = ("<", "<=", ">", ">=")


def definitions(ref: Callable[[str], str]) -> dict[str, Schema]:
    """What fields name as `written_as`, by name; `ref` makes a reference of a name."""
    found = {
        quantity_name(dimension, sign): _quantity(dimension, sign)
        for dimension in Dimension
        for sign in Sign
    }
    found["Level"] = _level()
    found["Tenant"] = _tenant()
    found["DeviceBudget"] = _device_budget()
    exit_metrics, tenant_metrics = Scope.EXIT.value, Scope.TENANT.value
    found["ExitCondition"] = _condition("ExitCondition", exit_metrics, ref)
    found["TenantCondition"] = _condition("TenantCondition", tenant_metrics, ref)
    found["Constraint"] = _constraint(ref)
    found["ExitWhen"] = {
        "description": "A condition for every exit, or a list with one per exit.",
        "anyOf": [
            {"$ref": ref("ExitCondition")},
            {"type": "array", "minItems": 1, "items": {"$ref": ref("ExitCondition")}},
        ],
    }
    return found


def quantity_name(dimension: Dimension, sign: Sign = Sign.ANY) -> str:
    """What the definition of a quantity is called."""
    return f"{sign.value}{dimension.name.title()}"


def sign_from(limits: Mapping[str, float]) -> Sign:
    """How low a number may be, by what JSON Schema calls its limits."""
    if limits.get("exclusiveMinimum", -1.0) >= 0.0 or limits.get("minimum", -1.0) > 0.0:
        return Sign.POSITIVE
    return Sign.NOT_NEGATIVE if "minimum" in limits and limits["minimum"] == 0.0 else Sign.ANY


def _quantity(dimension: Dimension, sign: Sign = Sign.ANY) -> Schema:
    number: Schema = {"type": "integer" if dimension is Dimension.COUNT else "number"}
    if dimension is Dimension.RATIO:
        number |= {"minimum": 0, "maximum": 1}
    elif sign is not Sign.ANY:
        number |= {"exclusiveMinimum" if sign is Sign.POSITIVE else "minimum": 0}
    named = f"; units: {', '.join(units(dimension))}" if units(dimension) else ""
    return {
        "description": f"As `{example(dimension)}`; a bare number is {dimension.value}{named}.",
        "examples": [example(dimension)],
        "anyOf": [
            number,
            {
                "type": "string",
                "maxLength": MAX_CHARACTERS,
                "pattern": rf"^\s*{_amount(dimension, sign)}\s*$",
                SAID: f"write a number with a unit, as {example(dimension)}{named}",
            },
        ],
    }


def _amount(dimension: Dimension, sign: Sign = Sign.ANY) -> str:
    """The pattern of a number with or without a unit."""
    if dimension is Dimension.RATIO:
        return _FRACTION
    number = _WHOLE if dimension is Dimension.COUNT else _NUMBERS[sign]
    # The longest first, so that `ms` is not read as `m` with something behind it.
    named = sorted(map(re.escape, units(dimension)), key=len, reverse=True)
    return rf"{number}\s*(?:{'|'.join(named)})?" if named else number


def _level() -> Schema:
    return {
        "description": f"One level of a topic: no `/`, `+`, `#`, no leading `$`, nothing"
        f" unprintable, no blank at an end, in NFC, at most {MAX_LEVEL_BYTES} bytes.",
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_LEVEL_BYTES,
        "pattern": "^[^$/+#][^/+#]*$",
    }


def _tenant() -> Schema:
    named = ", ".join(f"`{name}`" for name in RESERVED_NAMES)
    return {
        **_level(),
        "description": f"{_level()['description']} None of {named}.",
        "not": {"enum": list(RESERVED_NAMES)},
    }


def _device_budget() -> Schema:
    energy = _amount(Dimension.ENERGY, Sign.POSITIVE)
    time = _amount(Dimension.TIME, Sign.POSITIVE)
    return {
        "description": "Joules per period.",
        "examples": ["2kJ per 1h"],
        "type": "string",
        "pattern": rf"^\s*{energy}\s+per\s+{time}\s*$",
    }


def _condition(name: str, metrics: tuple[str, ...], ref: Callable[[str], str]) -> Schema:
    itself = {"$ref": ref(name)}
    several = {"type": "array", "minItems": 1, "items": itself}
    return {
        "description": "`metric op threshold`, as"
        f" `{_example_of(metrics)}`, or conditions under `all`, `any` or `not`.",
        "anyOf": [
            _expression(metrics, SYMBOLS),
            _only("all", several),
            _only("any", several),
            _only("not", itself),
            *_comparisons(metrics, [op.value for op in Op]),
        ],
    }


def _constraint(ref: Callable[[str], str]) -> Schema:
    ops = [SYMBOLS[symbol].value for symbol in STEERABLE_SYMBOLS]
    several = {"type": "array", "minItems": 1, "items": {"$ref": ref("Constraint")}}
    return {
        "description": "What a goal has to keep, as `p95_response_time <= 50ms`.",
        "anyOf": [
            _expression(STEERABLE, STEERABLE_SYMBOLS),
            _only("all", several),
            *_comparisons(STEERABLE, ops),
        ],
    }


def _expression(metrics: tuple[str, ...], symbols: Collection[str]) -> Schema:
    # `<=` before `<`, so that the longer one is taken where both would do.
    op = "|".join(sorted(symbols, key=len, reverse=True))
    comparisons = "|".join(
        rf"(?:{'|'.join(named)})\s*(?:{op})\s*{_amount(dimension)}"
        for dimension, named in _by_dimension(metrics)
    )
    return {
        "type": "string",
        "maxLength": MAX_EXPRESSION,
        "pattern": rf"^\s*(?:{comparisons})\s*$",
        SAID: f"write `metric op threshold`, as `{_example_of(metrics)}`; metrics here:"
        f" {', '.join(metrics)}; ops: {' '.join(symbols)}",
        "examples": [_example_of(metrics)],
    }


def _example_of(metrics: tuple[str, ...]) -> str:
    metric = "confidence" if "confidence" in metrics else metrics[0]
    return f"{metric} >= {example(DIMENSIONS[metric])}"


def _only(word: str, inner: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {word: inner},
        "required": [word],
        "additionalProperties": False,
    }


def _comparisons(metrics: tuple[str, ...], ops: list[str]) -> list[Schema]:
    """The form `{metric, op, threshold}`, once for each dimension of threshold."""
    # The parser takes them in any case; the enum is what an editor offers.
    op: list[Schema] = [{"enum": ops}, {"type": "string", "pattern": _in_any_case(ops)}]
    never = Op.NULL.value in ops
    if never:
        op.append({"type": "null"})
    found = []
    for dimension, named in _by_dimension(metrics):
        metric = [{"enum": named}, {"type": "string", "pattern": _in_any_case(named)}]
        comparison: Schema = {
            "type": "object",
            "properties": {
                "metric": {"anyOf": metric},
                "op": {"anyOf": op},
                "threshold": {key: _quantity(dimension)[key] for key in ("examples", "anyOf")},
            },
            "required": ["metric", "op"] if never else ["metric", "op", "threshold"],
            "additionalProperties": False,
        }
        if never:
            is_never = {"anyOf": [{"type": "null"}, {"pattern": _in_any_case([Op.NULL.value])}]}
            comparison["anyOf"] = [
                {"required": ["threshold"]},
                {"properties": {"op": is_never}},
            ]
        found.append(comparison)
    return found


def _by_dimension(metrics: Iterable[str]) -> list[tuple[Dimension, list[str]]]:
    ordered = sorted(metrics, key=lambda metric: (DIMENSIONS[metric].name, metric))
    return [(key, list(group)) for key, group in groupby(ordered, key=DIMENSIONS.__getitem__)]


def _in_any_case(words: Iterable[str]) -> str:
    spelt = ("".join(_either_case(letter) for letter in word) for word in words)
    return f"^(?:{'|'.join(spelt)})$"


def _either_case(letter: str) -> str:
    return f"[{letter.upper()}{letter}]" if letter.isalpha() else letter
