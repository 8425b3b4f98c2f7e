"""What a plan can reach: its exits with their cost, and the bounds that cannot be met together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.conditions import DIMENSIONS, explain
from appliance.constraints import limits_effort
from appliance.engine import cumulated
from appliance.plan import Plan
from appliance.quantities import format_quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitFeasibility:
    """One exit under a plan. `broken` names the bounds that an answer from here breaks."""

    exit: int
    response_time_s: float | None
    energy_j: float | None
    accuracy: float | None
    reachable: bool
    dominated: bool
    broken: tuple[str, ...]


def exits_of(plan: Plan, stage_times_s: Sequence[float | None]) -> list[ExitFeasibility]:
    """Each exit of the plan's engine, for a request that waits for nothing.

    `stage_times_s` holds the time of each stage in seconds, a high quantile for a careful
    answer, None where it is not known.
    The first exit is always reachable; a deeper one is when it breaks neither the bound on
    response time nor that on energy, and when some policy decision can want it.
    """
    bounds = plan.policy.bounds
    engine = plan.engine
    deepest = _deepest_wanted(plan)
    exits = []
    for exit_, response_time_s in enumerate(cumulated(stage_times_s)):
        energy_j, accuracy = engine.energy_to_j[exit_], engine.stages[exit_].accuracy
        broken = {
            "response_time": _over(response_time_s, bounds.response_time),
            "energy": _over(energy_j, bounds.energy),
            "accuracy": bounds.accuracy is not None and (accuracy or 0.0) < bounds.accuracy,
        }
        affordable = not broken["response_time"] and not broken["energy"]
        exits.append(
            ExitFeasibility(
                exit=exit_,
                response_time_s=response_time_s,
                energy_j=energy_j,
                accuracy=accuracy,
                reachable=exit_ == 0 or (affordable and exit_ <= deepest),
                dominated=exit_ in engine.dominated_exits,
                broken=tuple(name for name, is_broken in broken.items() if is_broken),
            )
        )
    return exits


def conflicts(plan: Plan, exits: Sequence[ExitFeasibility]) -> list[str]:
    """Sentences on the bounds that no exit keeps, alone or together."""
    bounds = plan.policy.bounds
    asked = [n for n in ("response_time", "energy", "accuracy") if getattr(bounds, n) is not None]
    alone = [name for name in asked if all(name in exit_.broken for exit_ in exits)]
    sentences = [f"no exit keeps bounds.{name}" for name in alone]
    together = [name for name in asked if name not in alone]
    if together and all(set(exit_.broken) & set(together) for exit_ in exits):
        names = " and ".join(f"bounds.{name}" for name in together)
        yields = next(name for name in reversed(together))
        sentences.append(f"no exit keeps {names} together: {yields} gives way")
    return sentences + _unlearnable_agreement(plan, exits) + _unreachable_goal(plan, exits[0])


def _unlearnable_agreement(plan: Plan, exits: Sequence[ExitFeasibility]) -> list[str]:
    broken = [name for name in ("response_time", "energy") if name in exits[-1].broken]
    if plan.policy.bounds.agreement is None or not broken:
        return []
    names = " and ".join(f"bounds.{name}" for name in broken)
    return [f"the last exit does not keep {names}: bounds.agreement gives way until it is known"]


def _unreachable_goal(plan: Plan, first: ExitFeasibility) -> list[str]:
    """The goal's constraints that not even one answer from the first exit keeps."""
    if plan.policy.goal is None:
        return []
    costs = {"p95_response_time": first.response_time_s, "energy_per_hour": first.energy_j}
    return [
        f"no exit keeps the goal's {explain(constraint)}: the first one alone takes"
        f" {format_quantity(cost, DIMENSIONS[constraint.metric])}"
        for constraint in plan.policy.goal.constraints
        if limits_effort(constraint)
        and (cost := costs.get(constraint.metric)) is not None
        and cost > constraint.threshold
    ]


def _deepest_wanted(plan: Plan) -> int:
    """The deepest exit that a decision of this plan can ask for."""
    if plan.policy.exit_when is not None:
        return plan.engine.last_exit
    return max((better for better in plan.engine.better_exit if better is not None), default=0)


def _over(value: float | None, bound: float | None) -> bool:
    return bound is not None and value is not None and value > bound
