"""How tenants share the device's time: who had more of it than its part, and who had less."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

WINDOW_S = 2.0
"""Over how long the use of the device is averaged."""

ACTIVE_S = 5.0
"""A tenant counts among those that share for so long after its last request."""

REFRESH_S = 0.1
"""How often it is worked out who is beyond its share."""

BEYOND, WITHIN = 1.0, 0.5
"""By how many allowances over its share a tenant is beyond it, and below how many no more."""


@dataclass(kw_only=True, slots=True)
class _Use:
    weight: float = 1.0
    of_device: float = 0.0
    """The fraction of the device's time that it had lately, as of `at_s`."""
    arrivals_hz: float = 0.0
    at_s: float = 0.0
    arrived_s: float = -math.inf
    tolerance_s: float = math.inf
    """How long its requests may wait for the device."""
    others: float = 0.0
    """What is kept for the other tenants."""

    def decay(self, now_s: float) -> None:
        kept = math.exp((self.at_s - now_s) / WINDOW_S)
        self.of_device *= kept
        self.arrivals_hz *= kept
        self.at_s = now_s


@dataclass(kw_only=True)
class Shares:
    """Averages the use that each tenant makes of the device, beside its weighted share.

    A share is a tenant's weight among those that sent something lately. One that has had much
    more than that is beyond its share, and goes after those within theirs; what they leave is
    its own. Pure: it is told the time.
    """

    beyond: set[str] = field(default_factory=set)
    """The tenants that had much more than their share, as of the last refresh."""
    _uses: dict[str, _Use] = field(default_factory=dict)
    _refreshed_s: float = -math.inf
    _tolerances_s: list[float] = field(default_factory=list)
    _rates_hz: list[float] = field(default_factory=list)
    _moments: list[float] = field(default_factory=list)

    def arrived(self, tenant: str, *, weight: float, tolerance_s: float, now_s: float) -> None:
        """Notes a request that may wait for `tolerance_s` before its first stage."""
        use = self._use(tenant, now_s)
        use.weight, use.tolerance_s, use.arrived_s = weight, tolerance_s, now_s
        use.arrivals_hz += 1.0 / WINDOW_S

    def used(self, tenant: str, seconds: float, now_s: float) -> None:
        """Notes that a tenant had the device for so long."""
        self._use(tenant, now_s).of_device += seconds / WINDOW_S

    def rate(self, tenant: str) -> float:
        """The part of the device that a tenant may count on: all that is not kept for others."""
        use = self._uses.get(tenant)
        return 1.0 if use is None else max(0.0, 1.0 - use.others)

    def is_due(self, now_s: float) -> bool:
        """Whether `refresh` is to be called again."""
        return now_s - self._refreshed_s >= REFRESH_S

    def refresh(self, now_s: float, waiting: Iterable[str]) -> list[str]:
        """Works out anew who is beyond its share; those for whom that has changed.

        `waiting` names the tenants that have work queued: what is kept for these is their whole
        share, for others as much of it as they have lately used.
        """
        self._refreshed_s = now_s
        queued = set(waiting)
        for tenant, use in list(self._uses.items()):
            use.decay(now_s)
            if now_s - use.arrived_s > ACTIVE_S and tenant not in queued:
                del self._uses[tenant]
                self.beyond.discard(tenant)
        whole = sum(use.weight for use in self._uses.values()) or 1.0
        kept = {
            tenant: use.weight / whole
            if tenant in queued
            else min(use.weight / whole, use.of_device)
            for tenant, use in self._uses.items()
        }
        kept_for_all = sum(kept.values())
        changed = []
        for tenant, use in self._uses.items():
            use.others = kept_for_all - kept[tenant]
            was_beyond = tenant in self.beyond
            share = use.weight / whole
            # Load comes in bursts: a share may be doubled, by a third of what is others' at most.
            allowance = min(share, (1.0 - share) / 3.0)
            limit = share + (WITHIN if was_beyond else BEYOND) * allowance
            if (use.of_device > limit) != was_beyond:
                self.beyond ^= {tenant}
                changed.append(tenant)
        self._note_impatient()
        return changed

    def blocked(self, stage_s: float) -> float:
        """How many requests are to be expected that cannot wait for the end of such a stage."""
        count = bisect_left(self._tolerances_s, stage_s)
        # The sum of rate * (stage_s - tolerance_s) over those that tolerate less.
        return stage_s * self._rates_hz[count] - self._moments[count] if count else 0.0

    def _note_impatient(self) -> None:
        impatient = sorted(
            (use.tolerance_s, use.arrivals_hz)
            for use in self._uses.values()
            if 0.0 < use.tolerance_s < math.inf
        )
        self._tolerances_s = [tolerance_s for tolerance_s, _ in impatient]
        self._rates_hz, self._moments = [0.0], [0.0]
        for tolerance_s, rate_hz in impatient:
            self._rates_hz.append(self._rates_hz[-1] + rate_hz)
            self._moments.append(self._moments[-1] + rate_hz * tolerance_s)

    def _use(self, tenant: str, now_s: float) -> _Use:
        use = self._uses.get(tenant)
        if use is None:
            use = self._uses[tenant] = _Use(at_s=now_s)
        use.decay(now_s)
        return use
