"""How many rejections a tenant is sent; the others are counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from appliance.token_bucket import TokenBucket

BURST_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Muted:
    """Rejections of one code that a tenant was not sent; None for tenants without a policy."""

    tenant: str | None
    code: int
    count: int


class RejectionQuota:
    """Lets each tenant have `rate_per_s` rejections. Called from several threads; told the time.

    A rejection is larger than the smallest request, so that whoever may publish requests could
    make the appliance send more than was sent to it. All tenants without a policy share one
    quota, so that names that are made up win nothing.
    """

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self._lock = threading.Lock()
        self._buckets: dict[str | None, TokenBucket] = {}
        self._muted: Counter[tuple[str | None, int]] = Counter()

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, tenant: str, code: int, known: Container[str], now_s: float) -> bool:
        """Whether a rejection is to be sent; one that is not is counted.

        `known` holds the tenants that have a policy.
        """
        name = tenant if tenant in known else None
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = self._buckets[name] = TokenBucket(
                    rate_per_s=self.rate_per_s,
                    capacity=max(1.0, self.rate_per_s * BURST_S),
                    now_s=now_s,
                )
            if bucket.wait_s(1.0, now_s) > 0.0:
                self._muted[name, code] += 1
                return False
            bucket.take(1.0, now_s)
            return True

    def take_muted(self, known: Container[str]) -> list[Muted]:
        """What was counted since the last time; forgets tenants that have no policy any more."""
        with self._lock:
            counted, self._muted = self._muted, Counter()
            self._buckets = {
                name: bucket
                for name, bucket in self._buckets.items()
                if name is None or name in known
            }
        return [
            Muted(tenant=tenant, code=code, count=count)
            for (tenant, code), count in counted.items()
        ]
