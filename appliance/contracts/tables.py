"""The tables of the reference in `docs/policies.md`: fields, metrics, ops and units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from appliance.conditions import DIMENSIONS, SYMBOLS, ExitMetrics, Op, TenantMetrics
from appliance.contracts.docstrings import attribute_docstrings
from appliance.contracts.language import STEERABLE, Schema, Sign, quantity_name
from appliance.contracts.schemas import schema_of
from appliance.errors import DelenError
from appliance.quantities import Dimension, example, format_quantity, units

_PLACE = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

_WORDS: Mapping[str, str] = {
    "Level": "one level of a topic",
    "ExitWhen": "[condition](#conditions) on the exit, or a list with one for each exit",
    "TenantCondition": "[condition](#conditions) on the tenant",
    "Constraint": "comparison of [metrics of the tenant](#metrics-of-a-tenant)",
}
"""What is written in a field whose schema has a name, where that is no dimension's."""

_DIMENSIONS = {
    quantity_name(dimension, sign): dimension for dimension in Dimension for sign in Sign
}

_NAMES = "NAME"
"""Stands for what the author of a document calls a thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    path: str
    default: str
    values: str
    what: str


def with_tables(text: str) -> str:
    """A page with what stands between `<!-- generated: NAME -->` and `<!-- end -->` made anew.

    Raises DelenError for a name that none of the tables has.
    """
    return _PLACE.sub(_made_anew, text)


def _made_anew(place: re.Match[str]) -> str:
    begin, name, end = place.groups()
    if name not in TABLES:
        raise DelenError(f"no table is called {name!r}; there are {', '.join(TABLES)}")
    return f"{begin}{TABLES[name]()}{end}"


def _fields() -> str:
    policy = schema_of("policy")
    rows = _fields_of(policy, "", policy["$defs"], set())
    return _table(
        ("field", "default", "values", "what"),
        ((f"`{row.path}`", row.default, row.values, row.what) for row in rows),
    )


def _fields_of(
    section: Schema, prefix: str, parts: Mapping[str, Schema], told: set[str]
) -> Iterator[_Field]:
    """A section's fields, each with those of the section that it holds where not `told` before."""
    for name, schema in section["properties"].items():
        kind, inner = _kind_of(schema)
        path = f"{prefix}{name}"
        below = {"object": f"{path}.{_NAMES}.", "array": f"{path}[]."}.get(kind, f"{path}.")
        holds = parts.get(inner, {}).get("properties") is not None
        yield _Field(
            path=path,
            default=_default_of(schema, required=name in section.get("required", ())),
            values=_section_words(kind, told=inner in told) if holds else _values_of(schema),
            what=schema["description"],
        )
        if holds and inner not in told:
            told.add(inner)
            yield from _fields_of(parts[inner], below, parts, told)


def _kind_of(schema: Schema) -> tuple[str, str]:
    """A field's JSON type, and the name of its schema, or of what its list or mapping holds."""
    schema = _without_null(schema)
    kind = str(schema.get("type", ""))
    held = {"array": "items", "object": "additionalProperties"}.get(kind, "")
    return kind, _name_in(schema.get(held) or schema)


def _without_null(schema: Schema) -> Schema:
    """The schema of a value that is not left out."""
    for choice in schema.get("anyOf", ()):
        if choice != {"type": "null"}:
            return {**choice, "default": schema.get("default")}
    return schema


def _name_in(schema: Schema) -> str:
    refs = [part["$ref"] for part in (schema, *schema.get("allOf", ())) if "$ref" in part]
    return str(refs[0]).rpartition("/")[2] if refs else ""


def _section_words(kind: str, *, told: bool) -> str:
    fields = "the same fields" if told else "the fields below"
    return {"array": f"a list, each with {fields}", "object": f"{fields}, by name"}.get(
        kind, fields
    )


def _default_of(schema: Schema, *, required: bool) -> str:
    if required:
        return "required"
    default, (_, name) = schema.get("default"), _kind_of(schema)
    if default is None:
        return "none" if "default" in schema or "type" in schema else ""
    if name in _DIMENSIONS:
        return f"`{format_quantity(default, _DIMENSIONS[name])}`"
    return f"`{str(default).lower() if isinstance(default, bool) else _plain(default)}`"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values_of(schema: Schema) -> str:
    schema = _without_null(schema)
    kind, name = _kind_of(schema)
    if kind == "array":
        return f"a list, each a {_values_of(schema['items'])}"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "string":
        return f"text, {schema['minLength']} to {schema['maxLength']} characters"
    if name in _DIMENSIONS:
        dimension = _DIMENSIONS[name]
        limits = _limits_of(schema, lambda value: format_quantity(value, dimension))
        return f"{_word(dimension)}{limits}"
    if name in _WORDS:
        return _WORDS[name]
    number = "whole number" if kind == "integer" else "number"
    return number + _limits_of(schema, "{:,}".format)


def _limits_of(schema: Schema, written: Callable[[float], str]) -> str:
    words = {
        "exclusiveMinimum": "above {}",
        "minimum": "at least {}",
        "exclusiveMaximum": "below {}",
        "maximum": "at most {}",
    }
    # Of whatever it is, nothing is nothing: `0 µs` would say no more.
    limits = [
        word.format(written(schema[key]) if schema[key] else "0")
        for key, word in words.items()
        if key in schema
    ]
    return "".join(f", {limit}" for limit in limits)


def _word(dimension: Dimension) -> str:
    return dimension.name.lower().replace("_", " ")


def _metrics(metrics: type) -> list[tuple[str, str, str]]:
    said = attribute_docstrings(metrics)
    return [(f"`{name}`", _word(DIMENSIONS[name]), said[name]) for name in said]


def _exit_metrics() -> str:
    return _table(("metric", "quantity", "what"), _metrics(ExitMetrics))


def _tenant_metrics() -> str:
    rows = _metrics(TenantMetrics)
    steerable = {f"`{name}`" for name in STEERABLE}
    return _table(
        ("metric", "quantity", "in a goal", "what"),
        ((name, kind, "yes" if name in steerable else "no", what) for name, kind, what in rows),
    )


def _ops() -> str:
    symbols = {op: f"`{symbol}`" for symbol, op in SYMBOLS.items()}
    said = attribute_docstrings(Op)
    return _table(
        ("in an expression", "in Dělen's form", "it holds where the metric is"),
        ((symbols.get(op, ""), f"`{op.value}`", said[op.name]) for op in Op),
    )


def _units() -> str:
    return _table(
        ("quantity", "a bare number is", "units", "as"),
        (
            (
                _word(dimension),
                dimension.value,
                ", ".join(f"`{unit}`" for unit in units(dimension)) or "none",
                f"`{example(dimension)}`",
            )
            for dimension in Dimension
        ),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "fields": _fields,
    "metrics of an exit": _exit_metrics,
    "metrics of a tenant": _tenant_metrics,
    "ops": _ops,
    "units": _units,
}
