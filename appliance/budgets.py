"""Budgets: joules per period, one a tenant and one for the device that they share by weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from appliance.device_budget import DeviceBudget
from appliance.energy import Energy
from appliance.pacing import Pacer
from appliance.policy import Budget, Policy

HELD_BACK = 0.01
"""The part of a budget that is not planned with: what was just spent is known to within that."""

REFRESH_S = 0.1
"""How old the sums over all tenants may be."""

FEWEST_SECONDS = 1.0
"""A rate of arrival is taken over no less than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How a budget stands."""

    energy_j: float
    per_s: float
    left_j: float
    ends_in_s: float
    """When the period ends, and the whole budget is there again."""

    @property
    def remaining(self) -> float:
        """The fraction that is left, between 0 and 1."""
        return min(1.0, max(0.0, self.left_j / self.energy_j))

    @property
    def usable_j(self) -> float:
        """What may still be planned with."""
        return self.left_j - HELD_BACK * self.energy_j


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
    arrivals: int = 0
    arrivals_before: int = 0
    seconds_before: float = 0.0
    """How many requests came in the period before, and how long that was."""
    pacer: Pacer = field(default_factory=Pacer)


@dataclass(kw_only=True)
class Budgets:
    """Says what may still be spent, by the counters of `energy`. It reads no clock.

    A budget is refilled whole when its period ends; the first period begins when the budget is
    first asked for. The device's budget is shared by `weights`: as the period goes on, what a
    tenant has not used of its share so far may be used by the others, and what is still to come
    of it is kept for that tenant.
    """

    energy: Energy
    weights: Callable[[], Mapping[str, float]] = dict
    """The weight of each tenant that has a policy in force."""
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _device: DeviceBudget | None = None
    _device_started_s: float = -math.inf
    _device_total: _Spending = field(default_factory=lambda: _Spending(before_j=0.0, counter_j=0.0))
    _device_spending: dict[str, _Spending] = field(default_factory=dict)
    _kept_j: dict[str, float] = field(default_factory=dict)
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
        return Balance(
            energy_j=budget.energy,
            per_s=budget.per,
            left_j=budget.energy - spent_j,
            ends_in_s=account.started_s + budget.per - now_s,
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
        kept_for_others_j = self._kept_sum_j - self._kept_j.get(policy.tenant, 0.0)
        return Balance(
            energy_j=device.energy_j,
            per_s=device.per_s,
            left_j=whole.left_j - kept_for_others_j,
            ends_in_s=whole.ends_in_s,
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

    def arrived(self, policy: Policy, now_s: float) -> None:
        """Counts a request, for what is still to be expected of the period."""
        if policy.budget is not None:
            self._account(policy.tenant, policy.budget, now_s).arrivals += 1

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
            elapsed_s = max(FEWEST_SECONDS, now_s - account.started_s) + account.seconds_before
            rate_hz = (account.arrivals + account.arrivals_before) / elapsed_s
            expected = max(1.0, rate_hz * balance.ends_in_s)
            account.pacer.follow(energy_j, target_j=max(0.0, balance.usable_j) / expected)

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
                    spent_j=spending.now_j(self.energy.spent_j(tenant)),
                )
                for tenant, spending in self._device_spending.items()
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
            self._device_spending[saved.tenant] = spending
        else:
            self._accounts[saved.tenant] = _Account(started_s=started_s, spending=spending)

    def _account(self, tenant: str, budget: Budget, now_s: float) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            spending = self._nothing_spent(tenant)
            account = self._accounts[tenant] = _Account(started_s=now_s, spending=spending)
        periods = math.floor((now_s - account.started_s) / budget.per)
        if periods > 0:
            account.arrivals_before = account.arrivals
            account.seconds_before = budget.per * periods
            account.arrivals = 0
            account.started_s += budget.per * periods
            account.spending = self._nothing_spent(tenant)
        return account

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
        self._device_spending = {
            tenant: self._nothing_spent(tenant) for tenant in self._device_spending
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
        to_come = 1.0 - (now_s - self._device_started_s) / device.per_s
        self._kept_j = {}
        for tenant, weight in weights.items():
            spending = self._device_spending.setdefault(tenant, self._nothing_spent(tenant))
            share_j = device.energy_j * weight / whole
            unspent_j = share_j - spending.now_j(self.energy.spent_j(tenant))
            self._kept_j[tenant] = max(0.0, min(unspent_j, share_j * to_come))
        self._kept_sum_j = sum(self._kept_j.values())
