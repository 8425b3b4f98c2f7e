"""Which mode a tenant is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from appliance.conditions import TenantMetrics
from appliance.plan import AdaptRule, Plan

SHORTEST_HOLD_S = 5.0
"""How long a tenant stays where it is, where no rule says: thresholds are crossed by noise, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeChange:
    """A tenant went from one mode to another; None is the policy itself."""

    tenant: str
    before: str | None
    after: str | None


@dataclass(kw_only=True, slots=True)
class _Place:
    mode: str | None = None
    until_s: float = 0.0
    """Until then the tenant stays where it is."""


@dataclass(kw_only=True)
class Adaptation:
    """Owns the modes that tenants are in. Pure: it is told the time and the metrics.

    The first rule that holds decides; where none does, the policy itself is in force. A rule
    that asks for a metric which is not known here does not hold.
    """

    _places: dict[str, _Place] = field(default_factory=dict)

    def mode(self, tenant: str) -> str | None:
        """The mode that a tenant is in, None for the policy itself."""
        place = self._places.get(tenant)
        return None if place is None else place.mode

    def adapt(
        self, now_s: float, plans: Mapping[str, Plan], metrics: Callable[[Plan], TenantMetrics]
    ) -> list[ModeChange]:
        """Asks the rules of every tenant that has some; what changed."""
        self._places = {
            tenant: place
            for tenant, place in self._places.items()
            if tenant in plans and (place.mode is None or place.mode in plans[tenant].modes)
        }
        changes = []
        for tenant, plan in plans.items():
            if not plan.rules:
                self._places.pop(tenant, None)
                continue
            place = self._places.setdefault(tenant, _Place())
            if now_s < place.until_s:
                continue
            rule = _first_that_holds(plan.rules, metrics(plan))
            mode = None if rule is None else rule.mode
            if mode != place.mode:
                changes.append(ModeChange(tenant=tenant, before=place.mode, after=mode))
                hold_s = None if rule is None else rule.hold_s
                place.mode = mode
                place.until_s = now_s + (SHORTEST_HOLD_S if hold_s is None else hold_s)
        return changes


def _first_that_holds(rules: tuple[AdaptRule, ...], metrics: TenantMetrics) -> AdaptRule | None:
    return next((rule for rule in rules if _holds(rule, metrics)), None)


def _holds(rule: AdaptRule, metrics: TenantMetrics) -> bool:
    try:
        return rule.when(metrics)
    except TypeError:
        return False
