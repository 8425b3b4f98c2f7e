"""What is learnt of each tenant's stream: how early requests may leave, how deep they may go."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from appliance.agreement import Agreement, AgreementEstimate
from appliance.conditions import TenantMetrics
from appliance.engine import Engine
from appliance.goals import Effort, Goals
from appliance.plan import Leave, Plan
from appliance.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """An agreement, and for which engine it was learnt."""

    engine: Engine
    agreement: Agreement


@dataclass(kw_only=True)
class Steering:
    """Owns the tenants' agreements and goals. Pure: it is told the time and the metrics."""

    goals: Goals = field(default_factory=Goals)
    _agreements: dict[tuple[str, float], _Kept] = field(default_factory=dict)
    """By tenant and target: a mode may ask for another than the policy itself."""
    _alarms: dict[str, int] = field(default_factory=dict)

    def chooses(self, plan: Plan) -> bool:
        """Whether the next request is a sample; to be asked before anything is known of it."""
        agreement = self._agreement(plan)
        return agreement is not None and agreement.chooses()

    def leave(self, task: Task, exit_: int, expected_accuracy: float) -> Leave:
        """Whether a request may, or is to, answer from an exit that is not the last."""
        agreement, effort = self._agreement(task.plan), self.goals.effort(task.plan.policy.tenant)
        if agreement is not None and exit_ == 0:
            agreement.saw(expected_accuracy)
        return Leave(
            agrees=None if agreement is None else agreement.may_leave(exit_, expected_accuracy),
            suffices=effort is not None and effort.suffices(exit_, expected_accuracy),
        )

    def learned(self, task: Task) -> None:
        """Takes in what all exits said to a sample that was answered at one of them."""
        agreement = self._agreement(task.plan)
        if agreement is not None and task.answered_at is not None:
            agreement.learned(task.trajectory, answered_at=task.answered_at)

    def steer(
        self, now_s: float, plans: Mapping[str, Plan], metrics: Callable[[Plan], TenantMetrics]
    ) -> list[str]:
        """Moves the efforts of the tenants with a goal; who raised the alarm over a drift since."""
        self.goals.steer(now_s, plans, metrics)
        self._agreements = {key: kept for key, kept in self._agreements.items() if key[0] in plans}
        before, self._alarms = self._alarms, {}
        for (tenant, _), kept in self._agreements.items():
            self._alarms[tenant] = self._alarms.get(tenant, 0) + kept.agreement.alarms
        return [t for t, alarms in self._alarms.items() if alarms > before.get(t, 0)]

    def effort(self, tenant: str) -> Effort | None:
        """The effort that a tenant's goal allows, None where it has none."""
        return self.goals.effort(tenant)

    def estimate(self, plan: Plan) -> AgreementEstimate | None:
        """What is known of the agreement with the last exit, None where none is asked for."""
        agreement = self._agreement(plan)
        return None if agreement is None else agreement.estimate()

    def _agreement(self, plan: Plan) -> Agreement | None:
        target, tenant = plan.policy.bounds.agreement, plan.policy.tenant
        if target is None:
            return None
        kept = self._agreements.get((tenant, target))
        if kept is None or kept.engine is not plan.engine:
            # Drawn from the tenant's name: the same requests are chosen in every simulation.
            seed = zlib.crc32(tenant.encode())
            agreement = Agreement(target=target, exits=len(plan.engine.stages), seed=seed)
            kept = self._agreements[tenant, target] = _Kept(engine=plan.engine, agreement=agreement)
        return kept.agreement
