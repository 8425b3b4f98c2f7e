"""How deep a tenant's requests may go, so that its goal's constraints hold as the load changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from appliance.conditions import Comparison, TenantMetrics
from appliance.constraints import limits_effort, margin
from appliance.plan import Plan

LAGS_S: Mapping[str, float] = {
    "queue_length": 2.0,
    "queue_delay": 2.0,
    "p95_response_time": 2.0,
    "power": 2.0,
    "energy_per_hour": 5.0,
    "budget_remaining": 10.0,
    "temperature": 30.0,
}
"""How soon each metric shows what effort has done to it."""

ROOM = 0.10
"""How far from its limit every constraint must be before more effort is tried."""

LEAST_CUT, MOST_CUT = 0.10, 0.50
"""The fractions by which effort is cut where a constraint breaks, by how much it does."""

MOST_RISE = 0.05
"""How fast effort rises, per second, where there is much room."""

NEAR, CREEP = 0.15, 0.005
"""How near the level that last broke a constraint effort rises slowly, and how fast, per second."""

LONGEST_STEP_S = 10.0

LEAST_LEVEL = 0.01
"""Below it, what is cut further is cut to nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """A request leaves at the exit `deepest`, or where its expected accuracy is `leave_at`."""

    leave_at: float
    deepest: int

    def suffices(self, exit_: int, expected_accuracy: float) -> bool:
        """Whether a request is to answer from this exit."""
        return exit_ >= self.deepest or expected_accuracy >= self.leave_at


@dataclass(kw_only=True)
class GoalController:
    """Moves one tenant's effort between 0 and 1. Pure: it is told the time and the metrics.

    Where a constraint breaks, effort is cut at once by a part that grows with how far it is broken;
    where all have room, it rises in steps, which are small around the level that last broke one
    (additive increase and multiplicative decrease, Chiu and Jain 1989, with the plateau of CUBIC,
    Ha et al. 2008). In between it stays. It moves again only when the metrics can show
    what the last move has done. A constraint on a metric that is not known does not act.
    """

    constraints: tuple[Comparison, ...]
    last_exit: int
    """The deepest exit that is worth going to."""
    level: float = 1.0
    moved_s: float = -math.inf
    """When effort last changed, in monotonic seconds: metrics are to tell of what came after."""
    _broke_at: float = math.inf
    """The level that last broke a constraint."""

    @property
    def effort(self) -> Effort:
        """The effort of this moment.

        Doubt, 1 - expected accuracy, may be the square of what the level lacks; its lower half
        takes away the deepest exits too, so that nothing takes long where time is scarce.
        """
        leave_at = math.inf if self.level >= 1.0 else 1.0 - (1.0 - self.level) ** 2
        deepest = math.ceil(self.last_exit * min(1.0, 2.0 * self.level))
        return Effort(leave_at=leave_at, deepest=deepest)

    def steer(self, now_s: float, metrics: TenantMetrics) -> bool:
        """Takes in how the tenant fares; whether that moved its effort."""
        limits = [constraint for constraint in self.constraints if limits_effort(constraint)]
        known = [(c, m) for c in limits if (m := margin(c, metrics)) is not None]
        if not known:
            return False
        level, since_s = self.level, now_s - self.moved_s
        least = min(room for _, room in known)
        if any(room < 0.0 and since_s >= LAGS_S[limit.metric] for limit, room in known):
            self._cut(-least)
        elif least > ROOM and since_s >= max(LAGS_S[limit.metric] for limit in limits):
            self._rise(least, since_s)
        if self.level == level:
            return False
        self.moved_s = now_s
        return True

    def _cut(self, excess: float) -> None:
        self._broke_at = self.level
        part = min(max(LEAST_CUT, excess), MOST_CUT)
        self.level = self.level * (1.0 - part) if self.level > LEAST_LEVEL else 0.0

    def _rise(self, room: float, since_s: float) -> None:
        step_s = min(since_s, LONGEST_STEP_S)
        risen = self.level + step_s * min(room / 8.0, MOST_RISE)
        if abs(risen - self._broke_at) < NEAR * self._broke_at:
            risen = self.level + step_s * CREEP
        self.level = min(1.0, risen)


@dataclass(kw_only=True)
class Goals:
    """Owns the controllers of the tenants that have a goal."""

    _controllers: dict[str, GoalController] = field(default_factory=dict)

    def effort(self, tenant: str) -> Effort | None:
        """The effort that a tenant's goal asks for, None where it has none."""
        controller = self._controllers.get(tenant)
        return None if controller is None else controller.effort

    def moved_s(self, tenant: str) -> float:
        """When a tenant's effort last changed."""
        controller = self._controllers.get(tenant)
        return -math.inf if controller is None else controller.moved_s

    def steer(
        self, now_s: float, plans: Mapping[str, Plan], metrics: Callable[[Plan], TenantMetrics]
    ) -> list[str]:
        """Moves the effort of every tenant that has a goal; whose has changed."""
        self._controllers = {
            tenant: self._controller(tenant, plan)
            for tenant, plan in plans.items()
            if plan.policy.goal is not None
        }
        return [
            tenant
            for tenant, controller in self._controllers.items()
            if controller.steer(now_s, metrics(plans[tenant]))
        ]

    def _controller(self, tenant: str, plan: Plan) -> GoalController:
        """The tenant's controller; a new one where the goal or the engine is another."""
        assert plan.policy.goal is not None  # noqa: S101 - its one caller asked
        constraints = plan.policy.goal.constraints
        reachable = [better for better in plan.engine.better_exit if better is not None]
        last_exit = max(reachable, default=0)
        known = self._controllers.get(tenant)
        if known is not None and (known.constraints, known.last_exit) == (constraints, last_exit):
            return known
        return GoalController(constraints=constraints, last_exit=last_exit)
