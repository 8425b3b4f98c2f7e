"""What tenants spend, what they may, and which mode they are in; owned by one thread."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.activity import Activity
from appliance.adaptation import Adaptation, ModeChange
from appliance.budgets import Balance, Budgets
from appliance.conditions import ExitMetrics, TenantMetrics
from appliance.energy import AS_PROFILED, Energy, StageRun
from appliance.engine import Engine
from appliance.plan import Plan, StoppedBy, energy_at, expected_gain
from appliance.policy import Policy
from appliance.steering import Steering
from appliance.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceState:
    """What of the device bears on its tenants; None where no meter tells."""

    power_w: float | None = None
    temperature_c: float | None = None
    """The hottest zone's."""


@dataclass(kw_only=True)
class Tenancy:
    """Joins budgets with their energy, activity and modes. Pure: it is told the time."""

    budgets: Budgets = field(default_factory=lambda: Budgets(energy=Energy()))
    adaptation: Adaptation = field(default_factory=Adaptation)
    steering: Steering = field(default_factory=Steering)
    device: DeviceState = field(default_factory=DeviceState)
    _activities: defaultdict[str, Activity] = field(default_factory=lambda: defaultdict(Activity))

    @property
    def energy(self) -> Energy:
        """Whose counters the budgets go by."""
        return self.budgets.energy

    def arrived(self, task: Task, now_s: float) -> None:
        """Notes that a request came for a tenant with a policy."""
        self._activities[task.request.tenant].arrived(now_s)
        first_j = self.stage_energies_j(task.plan.engine)[0] or 0.0
        self.budgets.arrived(task.plan.policy, now_s, first_exit_j=first_j)

    def charge(self, task: Task, stage: int, started_s: float, ended_s: float) -> None:
        """Charges a task for a stage that has run for it alone."""
        engine = task.plan.engine
        run = StageRun(
            tenant=task.request.tenant,
            engine=engine.name,
            modelled_j=engine.stages[stage].energy_j,
            started_s=started_s,
            ended_s=ended_s,
            begins=stage == 0,
        )
        task.runs.append(run)
        self.energy.ran(run)

    def exercised(self, engine: Engine, stage: int, started_s: float, ended_s: float) -> None:
        """Notes that a stage ran for nobody, so that a meter sees what it costs."""
        run = StageRun(
            tenant=None,
            engine=engine.name,
            modelled_j=engine.stages[stage].energy_j,
            started_s=started_s,
            ended_s=ended_s,
        )
        self.energy.ran(run)

    def worked(self, started_s: float, ended_s: float) -> None:
        """Notes that the appliance worked for itself: a time that is no tenant's, nor idle."""
        run = StageRun(
            tenant=None, engine="", modelled_j=None, started_s=started_s, ended_s=ended_s
        )
        self.energy.ran(run)

    def answered(self, task: Task, metrics: ExitMetrics, now_s: float) -> None:
        """Notes what an answer has taken and cost."""
        self._activities[task.request.tenant].answered(
            now_s, response_time_s=metrics.response_time, queue_time_s=task.queue_time_s
        )
        if metrics.energy is not None:
            self.budgets.answered(task.plan.policy, metrics.energy, now_s)

    def stage_energies_j(self, engine: Engine) -> Sequence[float | None]:
        """What each stage costs here and now, by the profile and what was lately measured."""
        cost = self.energy.cost(engine.name)
        if cost is AS_PROFILED:
            return engine.energies_j
        return [
            None if stage.energy_j is None else cost.of(stage.energy_j, begins=number == 0)
            for number, stage in enumerate(engine.stages)
        ]

    def shortage(self, plan: Plan, now_s: float) -> Balance | None:
        """The budget that has no room for one more task, where that is to be rejected.

        None where it may start; so it always may where its tenant is to be degraded instead. What
        it took to receive a task that is rejected is charged to nobody.
        """
        policy = plan.policy
        if policy.budget is None or policy.budget.exhausted != "reject":
            return None
        balance = self.budgets.balance(policy, now_s)
        first_j = self.stage_energies_j(plan.engine)[0] or 0.0
        if balance is None or balance.usable_j >= first_j:
            return None
        self.energy.ran(
            StageRun(
                tenant=None,
                engine=plan.engine.name,
                modelled_j=None,
                started_s=now_s,
                ended_s=now_s,
                begins=True,
            )
        )
        return balance

    def budget_stop(
        self,
        plan: Plan,
        metrics: ExitMetrics,
        stage_energies_j: Sequence[float | None],
        now_s: float,
    ) -> StoppedBy | None:
        """Stops a task whose next exit is beyond its budget, or not worth it at today's price."""
        balance = self.budgets.balance(plan.policy, now_s)
        if balance is None:
            return None
        wanted = plan.engine.better_exit[metrics.exit] or metrics.exit + 1
        wanted_j = energy_at(wanted, metrics, stage_energies_j)
        cost_j = 0.0 if wanted_j is None or metrics.energy is None else wanted_j - metrics.energy
        gain = expected_gain(plan.engine, metrics, wanted)
        worth = self.budgets.is_worth(plan.policy, gain=gain, cost_j=cost_j, now_s=now_s)
        return None if worth and cost_j <= balance.usable_j else StoppedBy.BUDGET

    def in_mode(self, plan: Plan) -> Plan:
        """The plan of the mode that the tenant is in."""
        mode = self.adaptation.mode(plan.policy.tenant)
        return plan if mode is None else plan.modes.get(mode, plan)

    def adapt(
        self, plans: Mapping[str, Plan], queue_lengths: Mapping[str, int], now_s: float
    ) -> list[ModeChange]:
        """Asks every tenant's rules; which modes changed. Forgets tenants that have no plan."""
        for tenant in self._activities.keys() - plans.keys():
            del self._activities[tenant]
        self.budgets.forget_others(plans)
        return self.adaptation.adapt(
            now_s, plans, lambda plan: self._metrics(plan.policy, queue_lengths, now_s)
        )

    def steer(
        self, plans: Mapping[str, Plan], queue_lengths: Mapping[str, int], now_s: float
    ) -> list[str]:
        """Moves the efforts of tenants with a goal; for whom a drift was noticed since."""
        goals = self.steering.goals
        return self.steering.steer(
            now_s,
            plans,
            lambda plan: self._metrics(
                plan.policy, queue_lengths, now_s, since_s=goals.moved_s(plan.policy.tenant)
            ),
        )

    def _metrics(
        self,
        policy: Policy,
        queue_lengths: Mapping[str, int],
        now_s: float,
        since_s: float = -math.inf,
    ) -> TenantMetrics:
        activity = self._activities[policy.tenant]
        activity.spent(now_s, self.energy.spent_j(policy.tenant))
        balance = self.budgets.own(policy, now_s) or self.budgets.of_device(policy, now_s)
        return TenantMetrics(
            arrival_rate=activity.arrival_rate_hz(now_s),
            queue_length=queue_lengths.get(policy.tenant, 0),
            queue_delay=activity.queue_delay_s(now_s, since_s),
            p95_response_time=activity.p95_response_time_s(now_s, since_s),
            energy_per_hour=activity.energy_per_hour_j(since_s),
            budget_remaining=None if balance is None else balance.remaining,
            power=self.device.power_w,
            temperature=self.device.temperature_c,
        )
