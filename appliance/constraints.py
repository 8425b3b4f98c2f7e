"""The constraints of a goal: comparisons that more or less effort can keep."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.conditions import All, AnyOf, Comparison, Condition, Not, Op, TenantMetrics, explain
from appliance.errors import Fault, KeyPath

RISING = frozenset(
    {"queue_length", "queue_delay", "p95_response_time", "energy_per_hour", "power", "temperature"}
)
"""The metrics of a tenant that rise where its requests go deeper."""

FALLING = frozenset({"budget_remaining"})
"""Those that fall."""

_AT_MOST = (Op.LESS, Op.LESS_EQ)
_AT_LEAST = (Op.GREATER, Op.GREATER_EQ)


def comparisons(condition: Condition) -> tuple[Comparison, ...]:
    """The comparisons that all have to hold; of a condition without `constraint_faults`."""
    match condition:
        case Comparison():
            return (condition,)
        case All(conditions):
            return tuple(found for inner in conditions for found in comparisons(inner))
        case _:
            return ()


def constraint_faults(condition: Condition, path: KeyPath = ()) -> list[Fault]:
    """What of a condition a goal cannot be steered by, each fault with its path below it."""
    match condition:
        case All(conditions):
            return [
                fault
                for index, inner in enumerate(conditions)
                for fault in constraint_faults(inner, (*path, "all", index))
            ]
        case AnyOf() | Not():
            word = "any" if isinstance(condition, AnyOf) else "not"
            message = (
                f"a goal cannot be steered by `{word}`: list comparisons that all have to hold"
            )
        case Comparison(metric, _, _) if metric not in RISING | FALLING:
            message = (
                f"`{metric}` does not depend on how deep requests go;"
                f" a goal can be steered by {', '.join(sorted(RISING | FALLING))}"
            )
        case Comparison(_, op, _) if op not in _AT_MOST + _AT_LEAST:
            message = "a goal cannot be steered by equality: write <, <=, > or >="
        case _:
            return []
    return [Fault(path=path, message=message)]


def contradictions(conditions: Sequence[Condition]) -> list[Fault]:
    """The conditions that exclude one before them, each fault with its index."""
    seen: list[Comparison] = []
    faults = []
    for index, condition in enumerate(conditions):
        for found in comparisons(condition):
            against = next((other for other in seen if _exclude(found, other)), None)
            if against is not None:
                message = f"{explain(found)} and {explain(against)} exclude each other"
                faults.append(Fault(path=(index,), message=message))
            seen.append(found)
    return faults


def _exclude(one: Comparison, other: Comparison) -> bool:
    if one.metric != other.metric:
        return False
    highest, lowest = (one, other) if one.op in _AT_MOST else (other, one)
    if highest.op not in _AT_MOST or lowest.op not in _AT_LEAST:
        return False
    strict = highest.op is Op.LESS or lowest.op is Op.GREATER
    return highest.threshold < lowest.threshold or (
        strict and highest.threshold == lowest.threshold
    )


def limits_effort(constraint: Comparison) -> bool:
    """Whether less effort keeps a constraint; the others, maximising the accuracy keeps."""
    return (constraint.op in _AT_MOST) == (constraint.metric in RISING)


def margin(constraint: Comparison, metrics: TenantMetrics) -> float | None:
    """How far a metric is from its limit, relative to it; below 0 where the constraint is broken.

    None where the metric is not known.
    """
    value: float | None = getattr(metrics, constraint.metric)
    if value is None:
        return None
    limit = constraint.threshold
    room = limit - value if constraint.op in _AT_MOST else value - limit
    return room / (abs(limit) or 1.0)
