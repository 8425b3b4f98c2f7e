"""What tenants' replies came to since telemetry was last told."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np

from appliance.agreement import AgreementEstimate
from appliance.budgets import Balance
from appliance.goals import Effort
from appliance.messages import Reply, Result
from appliance.policy import Policy
from appliance.rejection_quota import Muted
from appliance.telemetry import (
    AgreementTelemetry,
    BoundsTelemetry,
    BudgetTelemetry,
    EffortTelemetry,
    TenantTelemetry,
)

LONGEST_LABEL = 100
"""How many characters of an answer's label are told; labels are as long as an engine likes."""

MAX_RESPONSE_TIMES = 10_000
"""How many response times a window keeps for its percentiles; more than that are not looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantAccount:
    """What a tenant spent in a window, and what it may spend."""

    spent_j: float
    charged_j: float
    """Since the start."""
    own: Balance | None
    of_device: Balance | None
    mode: str | None
    agreement: AgreementEstimate | None = None
    effort: Effort | None = None
    policy: Policy | None = None
    """What is in force for it, with the bounds of the mode that it is in."""


@dataclass(kw_only=True, slots=True)
class Window:
    """What a tenant's replies came to since the last one was taken."""

    exits: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    response_times_ms: list[float] = field(default_factory=list)
    energy_mj: float = 0.0
    last_label: str | None = None
    kept: int = 0
    confidence: float = 0.0
    """The sum of its answers'."""
    sources: Counter[str] = field(default_factory=Counter)
    muted: int = 0

    def take_in(self, reply: Reply) -> None:
        if not isinstance(reply, Result):
            self.rejections[str(reply.code)] += 1
            return
        self.exits[str(reply.exit)] += 1
        self.energy_mj += reply.energy_mj or 0.0
        self.last_label = reply.label
        self.kept += not reply.unmet
        self.confidence += reply.confidence
        self.sources[reply.energy_source] += 1
        if len(self.response_times_ms) < MAX_RESPONSE_TIMES:
            self.response_times_ms.append(reply.response_time_ms)

    def take_in_muted(self, muted: Muted) -> None:
        self.muted += muted.count
        # Their row in the log counts as one, too, once it is there.
        self.rejections[str(muted.code)] += muted.count - 1

    def replies(self) -> int:
        return self.exits.total() + self.rejections.total()

    def telemetry(
        self,
        tenant: str,
        *,
        appliance: str,
        window_s: float,
        account: TenantAccount,
        queue_length: int,
    ) -> TenantTelemetry:
        percentiles = (
            np.percentile(self.response_times_ms, (50, 95, 99)) if self.response_times_ms else ()
        )
        answered, policy = self.exits.total(), account.policy
        return TenantTelemetry(
            tenant=tenant,
            appliance=appliance,
            window_s=round(window_s, 3),
            answered=answered,
            rejected=self.rejections.total(),
            rate_per_s=round(self.replies() / window_s, 3),
            exits=self.exits,
            rejections=self.rejections,
            response_time_ms={
                name: round(float(value), 3)
                for name, value in zip(("p50", "p95", "p99"), percentiles, strict=False)
            },
            energy_mj=round(self.energy_mj, 6),
            energy_source=next((s for s, _ in self.sources.most_common(1)), "modelled"),
            spent_mj=round(account.spent_j * 1e3, 6),
            charged_j=round(account.charged_j, 6),
            last_label=None if self.last_label is None else self.last_label[:LONGEST_LABEL],
            budget=BudgetTelemetry.of(account.own),
            mode=account.mode,
            device_budget=BudgetTelemetry.of(account.of_device),
            agreement=AgreementTelemetry.of(account.agreement),
            effort=EffortTelemetry.of(account.effort),
            queue_length=queue_length,
            muted=self.muted,
            policy_version=None if policy is None else policy.version,
            bounds=BoundsTelemetry() if policy is None else BoundsTelemetry.of(policy.bounds),
            bound_kept=round(self.kept / answered, 5) if answered else None,
            confidence=round(self.confidence / answered, 5) if answered else None,
        )


class Windows:
    """Each tenant's window; taken in by the threads that log, taken out by the one that tells.

    Anybody may make up tenants' names: those that have no policy are counted together.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: defaultdict[str, Window] = defaultdict(Window)
        self._strangers = 0

    def take_in(self, reply: Reply, known: Container[str]) -> None:
        """Takes in a reply that is in the log; `known` holds the tenants that are told of."""
        with self._lock:
            if reply.tenant in known:
                self._windows[reply.tenant].take_in(reply)
            else:
                self._strangers += 1

    def take_in_muted(self, muted: Muted) -> None:
        """Takes in rejections that were not sent, before their row is in the log."""
        with self._lock:
            if muted.tenant is None:
                self._strangers += muted.count - 1
            else:
                self._windows[muted.tenant].take_in_muted(muted)

    def take_strangers(self) -> int:
        """How many replies went to tenants that are told of nowhere."""
        with self._lock:
            strangers, self._strangers = self._strangers, 0
        return strangers

    def take_out(self) -> dict[str, Window]:
        """What has gathered, by tenant; the next windows start empty."""
        with self._lock:
            windows, self._windows = self._windows, defaultdict(Window)
        return dict(windows)
