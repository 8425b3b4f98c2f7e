"""The energy of a running appliance: kept in the executor's thread, written down, told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from appliance.budgets import Budgets, Saved
from appliance.energy import IDLE, UNATTRIBUTED, Energy
from appliance.ledger import Accounts, BudgetState
from appliance.plan import Plan
from appliance.telemetry import EnergyTelemetry
from appliance.tenancy import Tenancy
from appliance.windows import TenantAccount

QUIET_S = 60.0
"""How often the ledger is written where only the idle machine has spent."""


@dataclass(kw_only=True)
class Bookkeeper:
    """Writes what was charged every half second, and less often where no tenant spends.

    `keep` is handed what is to be written. Everything is called in the executor's thread, or once
    that has ended. The budgets' periods are kept by `clock`, monotonic, so that a change of the
    wall clock moves none; only what is saved is told by `wall_clock`.
    """

    tenancy: Tenancy
    keep: Callable[[Accounts], None]
    can_keep: Callable[[], bool]
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    _written_s: float = 0.0
    _tenants_j: float = 0.0
    _told_j: dict[str, float] = field(default_factory=dict)

    @property
    def energy(self) -> Energy:
        return self.tenancy.energy

    @property
    def budgets(self) -> Budgets:
        return self.tenancy.budgets

    def tick(self) -> None:
        """Charges what no meter will see any more, and has written what was charged."""
        now_s = self.clock()
        self.energy.tick(now_s)
        spends = self.energy.tenants_j != self._tenants_j
        if self.can_keep() and (spends or now_s - self._written_s > QUIET_S):
            self._written_s, self._tenants_j = now_s, self.energy.tenants_j
            self.write()

    def write(self) -> None:
        """Has written what was charged since the last time, and how the budgets stand."""
        now_s, at_s = self.clock(), self.wall_clock()
        self.keep(
            Accounts(
                at_s=at_s,
                charges=self.energy.take_unwritten(),
                budgets=tuple(
                    BudgetState(
                        tenant=saved.tenant,
                        of_device=saved.of_device,
                        started_s=saved.started_s - now_s + at_s,
                        spent_j=saved.spent_j,
                    )
                    for saved in self.budgets.save(now_s)
                ),
            )
        )

    def restore(self, states: Iterable[BudgetState]) -> None:
        """Takes up the budgets as they stood when the appliance last ran."""
        now_s, at_s = self.clock(), self.wall_clock()
        for state in states:
            saved = Saved(
                tenant=state.tenant,
                of_device=state.of_device,
                started_s=state.started_s - at_s + now_s,
                spent_j=state.spent_j,
            )
            self.budgets.restore(saved, now_s)

    def tenants(self, plans: Mapping[str, Plan]) -> dict[str, TenantAccount]:
        """What each tenant spent since this was last asked, and what it may spend."""
        now_s, told_j = self.clock(), self._told_j
        self._told_j = {tenant: self.energy.spent_j(tenant) for tenant in plans}
        return {
            tenant: TenantAccount(
                spent_j=self._told_j[tenant] - told_j.get(tenant, 0.0),
                charged_j=self.energy.charged_j(tenant),
                own=self.budgets.own(plan.policy, now_s),
                of_device=self.budgets.of_device(plan.policy, now_s),
                mode=self.tenancy.adaptation.mode(tenant),
                agreement=self.tenancy.steering.estimate(self.tenancy.in_mode(plan)),
                effort=self.tenancy.steering.effort(tenant),
                policy=self.tenancy.in_mode(plan).policy,
            )
            for tenant, plan in plans.items()
        }

    def totals(self) -> EnergyTelemetry:
        """Joules since the start."""
        spent = self.energy.spent
        tenants = [value for name, value in spent.items() if name not in (IDLE, UNATTRIBUTED)]
        return EnergyTelemetry(
            tenants_j=round(sum(one.measured_j for one in tenants), 6),
            idle_j=round(spent[IDLE].measured_j, 6),
            unattributed_j=round(spent[UNATTRIBUTED].measured_j, 6),
            integrated_j=round(self.energy.integrated_j, 6),
            modelled_j=round(sum(one.modelled_j for one in tenants), 6),
        )
