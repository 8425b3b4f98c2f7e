"""The demo's tenants, and policies for them that bite on this engine and this machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.quantities import Dimension, format_quantity

REHEARSAL = "rehearsal"
"""The tenant of the frames that are sent first, to see how fast this machine is."""

CONFIDENT = 0.95
"""How sure the garden wants an answer to be before it saves the energy of another stage."""

RUNS_OUT = 0.4
"""The garden's budget, as a part of what it spent in the first half: it will not last."""

LEEWAY = 1.2
"""How far the gate's first bound may lie above the median response time of the whole network."""

AMPLE = 4.0
"""The gate's second bound, in response times of the whole network: room for a queue as well."""

CHEAPEST = "exit >= 0"
"""Stops at the first exit that the bounds allow."""

_DIMENSIONS = {
    "response_time": Dimension.TIME,
    "accuracy": Dimension.RATIO,
    "energy": Dimension.ENERGY,
    "budget": Dimension.ENERGY,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoPolicy:
    """One policy of one tenant: a bound or a budget, in SI, at most one condition, a priority."""

    tenant: str
    version: int
    engine: str
    metric: str
    bound: float
    exit_when: str | None = None
    priority: int = 0

    def document(self) -> bytes:
        """The policy as a fleet manager pushes it, in JSON."""
        document: dict[str, object] = {
            "tenant": self.tenant,
            "version": self.version,
            "engine": self.engine,
            "priority": self.priority,
        }
        if self.metric == "budget":
            document["budget"] = {"energy": self.bound, "per": "1h", "exhausted": "degrade"}
        else:
            document["bounds"] = {self.metric: self.bound}
        if self.exit_when is not None:
            document["exit_when"] = self.exit_when
        return json.dumps(document).encode()

    def words(self) -> str:
        """The policy's bound as a table shows it: `response time ≤ 8.5 ms`."""
        sign = "≥" if self.metric == "accuracy" else "≤"
        value = format_quantity(self.bound, _DIMENSIONS[self.metric])
        return f"{self.metric.replace('_', ' ')} {sign} {value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A tenant's policy from the start, and the one that replaces it half-way."""

    before: DemoPolicy
    after: DemoPolicy

    @property
    def tenant(self) -> str:
        return self.before.tenant

    def after_spending(self, spent_j: float) -> Change:
        """The same, its budget chosen by what was spent so far; others are not changed by that."""
        if self.after.metric != "budget" or spent_j <= 0.0:
            return self
        return replace(self, after=replace(self.after, bound=_rounded(RUNS_OUT * spent_j, round)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast the appliance answers on this machine, and what it spends, in seconds and joules."""

    shallow_p99_s: float
    """From an exit in the first part of the network, while another frame is there as well."""
    deepest_p50_s: float
    """From the most accurate exit, with nothing else to do."""
    deepest_p99_s: float
    deepest_j: float
    """Of an answer from the most accurate exit, by the meter or by the profile; 0 if not known."""


def rehearsals(engine: Engine) -> Change:
    """Policies under which every frame goes to a shallow exit, then to the most accurate one.

    Raises EngineError where the engine's profile lacks accuracies.
    """
    shallow, deepest = _floor(engine, _shallow_exit(engine)), _floor(engine, _deepest_exit(engine))
    return _change(engine, REHEARSAL, "accuracy", shallow, deepest, exit_when=CHEAPEST)


def demo_policies(engine: Engine, pace: Pace) -> tuple[Change, ...]:
    """The policies of the gate, the meter and the garden.

    Raises EngineError where the engine's profile lacks accuracies or energies.
    """
    return _gate(engine, pace), _meter(engine), _garden(engine, pace)


def _gate(engine: Engine, pace: Pace) -> Change:
    """A camera at a gate gets a tight bound on response time, then an ample one."""
    # Looking ahead by a high quantile, hardly a task goes for the deepest exit in the time that it
    # takes at the median. A busy machine gets what shallow exits need there, if that is not so
    # much that the deepest exit could be had for it as well.
    tight_s = min(max(pace.deepest_p50_s, pace.shallow_p99_s), LEEWAY * pace.deepest_p50_s)
    ample_s = AMPLE * pace.deepest_p99_s
    bounds = _rounded(tight_s, math.ceil), _rounded(ample_s, math.ceil)
    return _change(engine, "gate", "response_time", *bounds, priority=1)


def _meter(engine: Engine) -> Change:
    """A meter reader takes the cheapest exit that keeps its floor, which is then raised."""
    change = rehearsals(engine)
    return Change(
        before=replace(change.before, tenant="meter"), after=replace(change.after, tenant="meter")
    )


def _garden(engine: Engine, pace: Pace) -> Change:
    """A camera in a garden does without the last exit, and then has a battery, which runs out."""
    deepest_j = _known(engine, "energy", engine.energy_to_j[_deepest_exit(engine)])
    before_j = _known(engine, "energy", engine.energy_to_j[_useful_exits(engine)[-2:][0]])
    # Half-way between the two exits, as far apart as they are here: bounds are kept by the meter.
    scale = pace.deepest_j / deepest_j if pace.deepest_j and deepest_j else 1.0
    bound_j = _rounded(scale * (before_j + deepest_j) / 2, round)
    confident = f"confidence >= {CONFIDENT:g}"
    change = _change(engine, "garden", "energy", bound_j, deepest_j, exit_when=confident)
    return replace(change, after=replace(change.after, metric="budget"))


def _change(  # noqa: PLR0913 - the parts of a policy
    engine: Engine,
    tenant: str,
    metric: str,
    before: float,
    after: float,
    *,
    exit_when: str | None = None,
    priority: int = 0,
) -> Change:
    first = DemoPolicy(
        tenant=tenant,
        version=1,
        engine=engine.folder.name,
        metric=metric,
        bound=before,
        exit_when=exit_when,
        priority=priority,
    )
    return Change(before=first, after=replace(first, version=2, bound=after))


def _deepest_exit(engine: Engine) -> int:
    return _useful_exits(engine)[-1]


def _shallow_exit(engine: Engine) -> int:
    useful = _useful_exits(engine)
    return useful[(len(useful) - 1) // 3]


def _useful_exits(engine: Engine) -> list[int]:
    return [exit_ for exit_ in range(len(engine.stages)) if exit_ not in engine.dominated_exits]


def _floor(engine: Engine, exit_: int) -> float:
    """The highest accuracy that can be asked for and that an exit has, in three digits."""
    return _rounded(_known(engine, "accuracy", engine.stages[exit_].accuracy), math.floor)


def _known(engine: Engine, name: str, value: float | None) -> float:
    if value is None:
        raise EngineError(
            f"the engine {engine.name} has no {name} in its profile, from which the demo chooses"
            f" its bounds: run `delen profile {engine.folder}`"
        )
    return value


def _rounded(value: float, towards: Callable[[float], int]) -> float:
    """The value with three significant digits, as a person would write it in a policy."""
    if value <= 0:
        return value
    places = 2 - math.floor(math.log10(value))
    return round(towards(value * 10.0**places) * 10.0**-places, places)
