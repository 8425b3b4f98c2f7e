"""How fast tenants may send: each one's requests and bytes, before anything is done for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.errors import Code, Rejected
from appliance.plan import Plan
from appliance.policy import Limits
from appliance.quantities import Dimension, format_quantity
from appliance.token_bucket import TokenBucket


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """What no tenant may go beyond, whatever its policy says; infinite for no limit."""

    rate_per_s: float = math.inf
    bytes_per_s: float = math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class _Account:
    limits: Limits
    requests: TokenBucket
    payloads: TokenBucket
    rate_per_s: float
    bytes_per_s: float


class Admission:
    """Owns the tenants' token buckets; called in one thread, and told the time.

    All tenants without a policy share one account, which has the ceiling for its limits: their
    names can be made up without end.
    """

    def __init__(self, ceiling: Ceiling) -> None:
        self._ceiling = ceiling
        self._accounts: dict[str | None, _Account] = {}
        self._plans: Mapping[str, Plan] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def admit(self, tenant: str, size_bytes: int, plans: Mapping[str, Plan], now_s: float) -> None:
        """Counts a request against its tenant's limits. Raises Rejected where it is beyond them.

        One that is turned away takes nothing from what may come later.
        """
        if plans is not self._plans:
            self._forget_removed(plans)
        account = self._account(tenant, plans.get(tenant), now_s)
        requests_s = account.requests.wait_s(1.0, now_s)
        payloads_s = account.payloads.wait_s(size_bytes, now_s)
        if requests_s > 0.0 or payloads_s > 0.0:
            limit = (
                f"{format_quantity(account.rate_per_s, Dimension.RATE)} of requests"
                if requests_s >= payloads_s
                else f"{format_quantity(account.bytes_per_s, Dimension.BYTE_RATE)} of frames"
            )
            retry_ms = math.ceil(max(requests_s, payloads_s) * 1e3)
            raise Rejected(
                Code.TOO_MANY, f"the tenant's limit is {limit}: retry in {retry_ms} ms, send less"
            )
        account.requests.take(1.0, now_s)
        account.payloads.take(size_bytes, now_s)

    def _forget_removed(self, plans: Mapping[str, Plan]) -> None:
        self._plans = plans
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if name is None or name in plans
        }

    def _account(self, tenant: str, plan: Plan | None, now_s: float) -> _Account:
        name, limits = (None, Limits()) if plan is None else (tenant, plan.policy.limits)
        account = self._accounts.get(name)
        if account is None or (account.limits is not limits and account.limits != limits):
            account = self._accounts[name] = self._open(limits, now_s)
        return account

    def _open(self, limits: Limits, now_s: float) -> _Account:
        rate_per_s = min(limits.rate or math.inf, self._ceiling.rate_per_s)
        bytes_per_s = min(limits.bytes or math.inf, self._ceiling.bytes_per_s)
        return _Account(
            limits=limits,
            requests=TokenBucket(
                rate_per_s=rate_per_s, capacity=rate_per_s * limits.burst, now_s=now_s
            ),
            payloads=TokenBucket(
                rate_per_s=bytes_per_s, capacity=bytes_per_s * limits.burst, now_s=now_s
            ),
            rate_per_s=rate_per_s,
            bytes_per_s=bytes_per_s,
        )
