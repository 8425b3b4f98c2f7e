"""How many policy states a tenant is told; of those beyond, the last one a little later."""

from __future__ import annotations

from collections.abc import Container

from appliance.messages import PolicyState
from appliance.token_bucket import TokenBucket

RATE_PER_S = 10.0
BURST = 10.0

MOST_OWED_STRANGERS = 256
"""Of how many tenants without a policy a state is kept to be told later."""


class StateQuota:
    """Keeps whoever pushes policies in a flood from having states sent without end. Told the time.

    A state is retained and says what is in force, so that of several only the last one matters,
    and that is always told. Tenants without a policy share one quota, so that names that are made
    up win nothing. One thread uses it.
    """

    def __init__(self) -> None:
        self._buckets: dict[str | None, TokenBucket] = {}
        self._owed: dict[str, PolicyState] = {}

    def __len__(self) -> int:
        return len(self._owed)

    def allows(self, state: PolicyState, known: Container[str], now_s: float) -> bool:
        """Whether a state is to be told now; else it is owed, in the place of an earlier one.

        `known` holds the tenants that have a policy.
        """
        self._owed.pop(state.tenant, None)
        if self._takes(state.tenant, known, now_s):
            return True
        self._owed[state.tenant] = state
        self._forget_strangers(known)
        return False

    def forget(self, tenant: str) -> None:
        """Owes a tenant nothing any more: its policy is removed."""
        self._owed.pop(tenant, None)

    def take_due(self, known: Container[str], now_s: float) -> list[PolicyState]:
        """What was owed and may be told by now; forgets the quotas of tenants without a policy."""
        self._buckets = {
            name: bucket for name, bucket in self._buckets.items() if name is None or name in known
        }
        due = [name for name in self._owed if self._takes(name, known, now_s)]
        return [self._owed.pop(name) for name in due]

    def take_all(self) -> list[PolicyState]:
        """All that is owed, at the end."""
        owed, self._owed = self._owed, {}
        return list(owed.values())

    def _takes(self, tenant: str, known: Container[str], now_s: float) -> bool:
        name = tenant if tenant in known else None
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(
                rate_per_s=RATE_PER_S, capacity=BURST, now_s=now_s
            )
        if bucket.wait_s(1.0, now_s) > 0.0:
            return False
        bucket.take(1.0, now_s)
        return True

    def _forget_strangers(self, known: Container[str]) -> None:
        strangers = [name for name in self._owed if name not in known]
        if len(strangers) > MOST_OWED_STRANGERS:
            del self._owed[strangers[0]]
