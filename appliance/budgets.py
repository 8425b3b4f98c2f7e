"""Budgets: joules per period, one a tenant and one for the device that they share by weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from appliance.demand import Demand
from appliance.device_budget import DeviceBudget
from appliance.energy import Energy
from appliance.pacing import Pacer
from appliance.policy import Budget, Policy

HELD_BACK = 0.01
"""The part of a budget that is not planned with: what was just spent is known to within that."""

SURPRISES = 0.015
"""The part that is reserved for first exits beyond what they are thought to come to."""

EARLY = 0.02
"""The part of a period by which a paced budget is to be spent before it ends: what is kept for
requests that then do not come is lost."""

FORGETTING = 0.99995
"""How much of a dear first exit is remembered with each further request: half after 14,000."""

REFRESH_S = 0.1
"""How old the sums over all tenants may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How a budget stands."""

    energy_j: float
    per_s: float
    left_j: float
    ends_in_s: float
    """When the period ends, and the whole budget is there again."""
    reserved_j: float = 0.0
    """What the first exits of requests still to come may cost, which are answered anyway."""

    @property
    def remaining(self) -> float:
        """The fraction that is left, between 0 and 1."""
        return min(1.0, max(0.0, self.left_j / self.energy_j))

    @property
    def plannable_j(self) -> float:
        """What all requests still to come may cost."""
        return self.left_j - HELD_BACK * self.energy_j

    @property
    def usable_j(self) -> float:
        """What of that may be spent at once."""
        return self.plannable_j - self.reserved_j


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A budget's state as it outlasts a restart. `tenant` is None for the device's own period."""

    tenant: str | None
    of_device: bool
    started_s: float
    spent_j: float


@dataclass(kw_only=True, slots=True)
class _Spending:
    """What a tenant has spent since a moment: `before_j`, and what its counter has grown since."""

    before_j: float
    counter_j: float

    def now_j(self, counter_j: float) -> float:
        return max(0.0, self.before_j + counter_j - self.counter_j)


@dataclass(kw_only=True, slots=True)
class _Account:
    """A tenant's own budget in its present period."""

    started_s: float
    spending: _Spending
    pacer: Pacer = field(default_factory=Pacer)


@dataclass(kw_only=True, slots=True)
class _Share:
    """What a tenant has to do with the device's budget in its present period, in joules."""

    spending: _Spending
    whole_j: float = 0.0
    """Its part of the budget, by weight."""
    kept_j: float = 0.0
    """What others leave for it: what is still to come of its share, or what its requests still to
    come will cost at the least where that is more."""


@dataclass(kw_only=True)
class Budgets:
    """Says what may still be spent, by the counters of `energy`. It reads no clock.

    A budget is refilled whole when its period ends; the first period begins when the budget is
    first asked for. Where a spent budget does not turn requests away, their first exits go on
    costing: as much as those still to come may take is reserved beforehand, so that the budget
    lasts. The device's budget is shared by `weights`: as the period goes on, what a tenant has
    not used of its share so far may be used by the others, and what is still to come of it is
    kept for that tenant.
    """

    energy: Energy
    weights: Callable[[], Mapping[str, float]] = dict
    """The weight of each tenant that has a policy in force."""
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _device: DeviceBudget | None = None
    _device_started_s: float = -math.inf
    _device_total: _Spending = field(default_factory=lambda: _Spending(before_j=0.0, counter_j=0.0))
    _shares: dict[str, _Share] = field(default_factory=dict)
    _demands: dict[tuple[str, bool], Demand] = field(default_factory=dict)
    """By tenant, and whether it is for the device's period."""
    _first_exits_j: dict[str, float] = field(default_factory=dict)
    """What a request costs each tenant at the least, where it is answered in any case: the most
    that this was found to be of late. What deep answers hide shows when only first exits are left.
    """
    _kept_sum_j: float = 0.0
    _kept_at_s: float = -math.inf

    @property
    def device(self) -> DeviceBudget | None:
        """The budget of the device, None where there is none."""
        return self._device

    def set_device(self, budget: DeviceBudget | None) -> None:
        """Changes the device's budget; what was spent in this period stays spent."""
        self._device = budget
        self._kept_at_s = -math.inf

    def balance(self, policy: Policy, now_s: float) -> Balance | None:
        """The tighter one of a tenant's own budget and its part of the device's; None for none."""
        balances = [b for b in (self.own(policy, now_s), self.of_device(policy, now_s)) if b]
        return min(balances, key=lambda balance: balance.usable_j, default=None)

    def own(self, policy: Policy, now_s: float) -> Balance | None:
        """How the tenant's own budget stands."""
        budget = policy.budget
        if budget is None:
            return None
        account = self._account(policy.tenant, budget, now_s)
        spent_j = account.spending.now_j(self.energy.spent_j(policy.tenant))
        ends_in_s = account.started_s + budget.per - now_s
        demand = self._demand(policy.tenant, budget.per, now_s)
        return Balance(
            energy_j=budget.energy,
            per_s=budget.per,
            left_j=budget.energy - spent_j,
            ends_in_s=ends_in_s,
            reserved_j=self._reserve_j(policy.tenant, budget.energy, demand, now_s, ends_in_s),
        )

    def of_device(self, policy: Policy, now_s: float) -> Balance | None:
        """What this tenant may still spend of the device's budget."""
        device = self._device
        if device is None:
            return None
        self._refresh(device, now_s)
        whole = self.whole_device(now_s)
        if whole is None:
            return None
        demand = self._demand(policy.tenant, device.per_s, now_s, of_device=True)
        share = self._shares.get(policy.tenant)
        room_j = whole.left_j - self._kept_sum_j
        if share is not None:
            # Others' first exits may outgrow their shares, but not take away from this one's.
            to_come_j = self._to_come_j(policy.tenant, share, whole.ends_in_s / device.per_s)
            room_j = max(room_j + share.kept_j, min(to_come_j, whole.left_j))
        return Balance(
            energy_j=device.energy_j,
            per_s=device.per_s,
            left_j=room_j,
            ends_in_s=whole.ends_in_s,
            reserved_j=self._reserve_j(
                policy.tenant, device.energy_j, demand, now_s, whole.ends_in_s
            ),
        )

    def whole_device(self, now_s: float) -> Balance | None:
        """How the device's budget stands, for all tenants together."""
        device = self._device
        if device is None:
            return None
        self._roll_device(device, now_s)
        return Balance(
            energy_j=device.energy_j,
            per_s=device.per_s,
            left_j=device.energy_j - self._device_total.now_j(self.energy.tenants_j),
            ends_in_s=self._device_started_s + device.per_s - now_s,
        )

    def arrived(self, policy: Policy, now_s: float, *, first_exit_j: float = 0.0) -> None:
        """Counts a request, for what is still to be expected; what its first exit will cost."""
        rejects = policy.budget is not None and policy.budget.exhausted == "reject"
        dearest_j = FORGETTING * self._first_exits_j.get(policy.tenant, 0.0)
        self._first_exits_j[policy.tenant] = 0.0 if rejects else max(first_exit_j, dearest_j)
        if policy.budget is not None:
            self._account(policy.tenant, policy.budget, now_s)
            self._demand(policy.tenant, policy.budget.per, now_s).arrived(now_s)
        if self._device is not None:
            per_s = self._device.per_s
            self._demand(policy.tenant, per_s, now_s, of_device=True).arrived(now_s)

    def is_worth(self, policy: Policy, *, gain: float, cost_j: float, now_s: float) -> bool:
        """Whether a deeper exit is worth its joules where a policy asks for pace.

        `gain` is the accuracy that it is expected to add.
        """
        if policy.budget is None or not policy.budget.pace:
            return True
        return self._account(policy.tenant, policy.budget, now_s).pacer.is_worth(gain, cost_j)

    def answered(self, policy: Policy, energy_j: float, now_s: float) -> None:
        """Lets the pace follow what an answer has cost, with a view to what is left."""
        budget = policy.budget
        if budget is None or not budget.pace:
            return
        balance = self.balance(policy, now_s)
        account = self._account(policy.tenant, budget, now_s)
        if balance is not None:
            demand = self._demand(policy.tenant, budget.per, now_s)
            ahead_s = max(0.0, balance.ends_in_s - EARLY * balance.per_s)
            to_come = max(1.0, demand.expected(ahead_s, now_s))
            target_j = max(0.0, balance.plannable_j) / to_come
            account.pacer.follow(energy_j, target_j=target_j, to_come=to_come)

    def forget_others(self, tenants: Container[str]) -> None:
        """Forgets what was learnt of all tenants but these; what they spent stays spent."""
        for tenant in [tenant for tenant in self._first_exits_j if tenant not in tenants]:
            del self._first_exits_j[tenant]
        for key in [key for key in self._demands if key[0] not in tenants]:
            del self._demands[key]

    def save(self, now_s: float) -> list[Saved]:
        """Everything that must outlast a restart; `started_s` is as `now_s` is."""
        saved = [
            Saved(
                tenant=tenant,
                of_device=False,
                started_s=account.started_s,
                spent_j=account.spending.now_j(self.energy.spent_j(tenant)),
            )
            for tenant, account in self._accounts.items()
        ]
        if self._device is not None:
            self._roll_device(self._device, now_s)
            started_s = self._device_started_s
            total_j = self._device_total.now_j(self.energy.tenants_j)
            saved.append(Saved(tenant=None, of_device=True, started_s=started_s, spent_j=total_j))
            saved += [
                Saved(
                    tenant=tenant,
                    of_device=True,
                    started_s=started_s,
                    spent_j=share.spending.now_j(self.energy.spent_j(tenant)),
                )
                for tenant, share in self._shares.items()
            ]
        return saved

    def restore(self, saved: Saved, now_s: float) -> None:
        """Takes up a state that was saved; a period that had begun later than now begins now."""
        started_s = min(saved.started_s, now_s)
        counter_j = (
            self.energy.tenants_j if saved.tenant is None else self.energy.spent_j(saved.tenant)
        )
        spending = _Spending(before_j=saved.spent_j, counter_j=counter_j)
        if saved.tenant is None:
            self._device_started_s, self._device_total = started_s, spending
        elif saved.of_device:
            self._shares[saved.tenant] = _Share(spending=spending)
        else:
            self._accounts[saved.tenant] = _Account(started_s=started_s, spending=spending)

    def _account(self, tenant: str, budget: Budget, now_s: float) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            spending = self._nothing_spent(tenant)
            account = self._accounts[tenant] = _Account(started_s=now_s, spending=spending)
        periods = math.floor((now_s - account.started_s) / budget.per)
        if periods > 0:
            account.started_s += budget.per * periods
            account.spending = self._nothing_spent(tenant)
        return account

    def _demand(
        self, tenant: str, span_s: float, now_s: float, *, of_device: bool = False
    ) -> Demand:
        demand = self._demands.get((tenant, of_device))
        if demand is None or demand.span_s != span_s:
            demand = self._demands[tenant, of_device] = Demand(span_s=span_s, since_s=now_s)
        return demand

    def _reserve_j(
        self, tenant: str, budget_j: float, demand: Demand, now_s: float, ahead_s: float
    ) -> float:
        """What of a budget is for the first exits of a tenant's requests still to come."""
        each_j = self._first_exits_j.get(tenant, 0.0)
        if each_j <= 0.0:
            return 0.0
        return SURPRISES * budget_j + each_j * demand.most(ahead_s, now_s)

    def _nothing_spent(self, tenant: str) -> _Spending:
        return _Spending(before_j=0.0, counter_j=self.energy.spent_j(tenant))

    def _roll_device(self, device: DeviceBudget, now_s: float) -> None:
        if self._device_started_s == -math.inf:
            self._device_started_s = now_s
            self._begin_device_period()
        periods = math.floor((now_s - self._device_started_s) / device.per_s)
        if periods > 0:
            self._device_started_s += device.per_s * periods
            self._begin_device_period()

    def _begin_device_period(self) -> None:
        self._device_total = _Spending(before_j=0.0, counter_j=self.energy.tenants_j)
        self._shares = {
            tenant: _Share(spending=self._nothing_spent(tenant))
            for tenant in self._shares.keys() & self.weights().keys()
        }
        self._kept_at_s = -math.inf

    def _refresh(self, device: DeviceBudget, now_s: float) -> None:
        """Works out what is kept for each tenant: what is still to come of its share."""
        self._roll_device(device, now_s)
        if now_s - self._kept_at_s < REFRESH_S:
            return
        self._kept_at_s = now_s
        weights = self.weights()
        whole = sum(weights.values())
        ends_in_s = self._device_started_s + device.per_s - now_s
        for tenant in self._shares.keys() - weights.keys():
            self._shares[tenant].whole_j = self._shares[tenant].kept_j = 0.0
        for tenant, weight in weights.items():
            share = self._shares.get(tenant)
            if share is None:
                share = self._shares[tenant] = _Share(spending=self._nothing_spent(tenant))
            share.whole_j = device.energy_j * weight / whole
            to_come_j = self._to_come_j(tenant, share, ends_in_s / device.per_s)
            demand = self._demand(tenant, device.per_s, now_s, of_device=True)
            first_exits_j = self._first_exits_j.get(tenant, 0.0) * demand.expected(ends_in_s, now_s)
            share.kept_j = max(to_come_j, first_exits_j)
        self._kept_sum_j = sum(share.kept_j for share in self._shares.values())

    def _to_come_j(self, tenant: str, share: _Share, to_come: float) -> float:
        """What a tenant has not used of its share, as far as that is still to come."""
        unspent_j = share.whole_j - share.spending.now_j(self.energy.spent_j(tenant))
        return max(0.0, min(unspent_j, share.whole_j * to_come))
