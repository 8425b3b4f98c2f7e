"""What has happened since the start, counted by tenant."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from appliance.energy import IDLE, UNATTRIBUTED, Spent
from appliance.messages import Reply, Result
from appliance.plan import Plan
from appliance.rejection_quota import Muted

OTHER = "$other"
"""Whoever has no series of its own; no tenant's name may begin with a `$`."""

NO_ENGINE = "none"
"""The engine of a request that was turned away without one."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper edges of the buckets of response times, but for the last one, which has none."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """What has happened to one tenant's requests since the start."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By engine and by status."""
    exits: Counter[int] = field(default_factory=Counter)
    rejections: Counter[int] = field(default_factory=Counter)
    """By code."""
    muted: int = 0
    """Those of the rejections that nobody was sent, since there were too many."""
    unmet: Counter[str] = field(default_factory=Counter)
    """Answers that did not keep a bound, by its name."""
    response_times: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """How many fell into each bucket alone."""
    response_times_s: float = 0.0
    """Their sum."""
    spent: Spent = field(default_factory=Spent)

    def take_in(self, reply: Reply, engine: str) -> None:
        """Counts one reply; `engine` is what serves the tenant, for a rejection."""
        if not isinstance(reply, Result):
            self.requests[engine, reply.status] += 1
            self.rejections[reply.code] += 1
            return
        response_time_s = reply.response_time_ms / 1e3
        self.requests[reply.engine, reply.status] += 1
        self.exits[reply.exit] += 1
        self.unmet.update(reply.unmet)
        self.response_times[bisect_left(BUCKETS_S, response_time_s)] += 1
        self.response_times_s += response_time_s

    def copy(self) -> Tally:
        return Tally(
            requests=self.requests.copy(),
            exits=self.exits.copy(),
            rejections=self.rejections.copy(),
            muted=self.muted,
            unmet=self.unmet.copy(),
            response_times=self.response_times.copy(),
            response_times_s=self.response_times_s,
            spent=Spent(measured_j=self.spent.measured_j, modelled_j=self.spent.modelled_j),
        )


class Counters:
    """The tallies of the tenants that have a policy, and one of all others together.

    Anybody may make up tenants' names, and there may be very many of them: the first `limit` of
    the tenants in `plans` have a tally of their own, which goes with their policy. What is once
    counted under `OTHER` stays there, so that no count but those of a tenant that went ever falls.

    Replies are taken in by the thread that logs, joules by whoever takes a copy.
    """

    def __init__(self, *, plans: Callable[[], Mapping[str, Plan]], limit: int) -> None:
        self._plans = plans
        self._limit = limit
        self._lock = threading.Lock()
        self._named_of: Mapping[str, Plan] | None = None
        self._tallies: dict[str, Tally] = {OTHER: Tally()}
        self._seen: dict[str, Spent] = {}

    def take_in(self, reply: Reply) -> None:
        """Counts a reply that is in the log."""
        with self._lock:
            tally, engine = self._tally_of(reply.tenant)
            tally.take_in(reply, engine)

    def take_in_muted(self, muted: Muted) -> None:
        """Counts rejections that were not sent, but for the one row that tells of them all."""
        with self._lock:
            tally, engine = self._tally_of(muted.tenant)
            tally.muted += muted.count
            tally.requests[engine, "rejected"] += muted.count - 1
            tally.rejections[muted.code] += muted.count - 1

    def copy(self, spent: Mapping[str, Spent]) -> dict[str, Tally]:
        """The tallies as they are now, by tenant in the order of the plans, `OTHER` at the end.

        `spent` is what every tenant has spent since the start.
        """
        with self._lock:
            self._follow_plans()
            self._take_in_joules(spent)
            tallies = {tenant: tally.copy() for tenant, tally in self._tallies.items()}
            tallies[OTHER] = tallies.pop(OTHER)
        return tallies

    def _tally_of(self, tenant: str | None) -> tuple[Tally, str]:
        """Where a tenant is counted, and the engine that serves it."""
        plan = None if tenant is None else self._follow_plans().get(tenant)
        tally = None if tenant is None else self._tallies.get(tenant)
        return tally or self._tallies[OTHER], NO_ENGINE if plan is None else plan.engine.name

    def _follow_plans(self) -> Mapping[str, Plan]:
        # The snapshot of the plans is replaced whole where one of them changes.
        plans = self._plans()
        if plans is not self._named_of:
            self._named_of = plans
            before = self._tallies
            named = {tenant: before.get(tenant) or Tally() for tenant in self._named(plans)}
            self._tallies = {**named, OTHER: before[OTHER]}
        return plans

    def _named(self, plans: Mapping[str, Plan]) -> list[str]:
        """Who has a tally: those that had one before the others, so that none of theirs ends."""
        had = [tenant for tenant in plans if tenant in self._tallies]
        others = (tenant for tenant in plans if tenant not in self._tallies)
        return [*had, *islice(others, max(0, self._limit - len(had)))]

    def _take_in_joules(self, spent: Mapping[str, Spent]) -> None:
        for tenant, now in spent.items():
            if tenant in (IDLE, UNATTRIBUTED):
                continue
            seen = self._seen.get(tenant) or Spent()
            tally = self._tallies.get(tenant) or self._tallies[OTHER]
            # What rounding takes off the ledger must not look like a restart.
            tally.spent.measured_j += max(0.0, now.measured_j - seen.measured_j)
            tally.spent.modelled_j += max(0.0, now.modelled_j - seen.modelled_j)
            self._seen[tenant] = now
