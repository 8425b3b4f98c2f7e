"""What is told about the last few seconds: rates, exits, response times, energy, queues."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import TypeAdapter

from appliance.messages import Reply, Result

MAX_RESPONSE_TIMES = 10_000
"""How many response times a window keeps for its percentiles; more than that are not looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantTelemetry:
    """One tenant's last window, as on the wire."""

    tenant: str
    appliance: str
    window_s: float
    answered: int
    rejected: int
    rate_per_s: float
    exits: Mapping[str, int]
    rejections: Mapping[str, int]
    response_time_ms: Mapping[str, float]
    energy_mj: float
    energy_source: str
    queue_length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplianceTelemetry:
    """The appliance's last window, as on the wire."""

    appliance: str
    window_s: float
    uptime_s: float
    engines: tuple[str, ...]
    meter: str
    queue_length: int
    unlogged: int
    """Replies of QoS 0 that the log had no room for, since the start."""
    log_failure: str | None
    tenants: Mapping[str, int]
    """How many requests of each tenant were dealt with."""


TENANT_TELEMETRY: TypeAdapter[TenantTelemetry] = TypeAdapter(TenantTelemetry)
APPLIANCE_TELEMETRY: TypeAdapter[ApplianceTelemetry] = TypeAdapter(ApplianceTelemetry)


@dataclass(kw_only=True, slots=True)
class Window:
    """What a tenant's replies came to since the last one was taken."""

    exits: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    response_times_ms: list[float] = field(default_factory=list)
    energy_mj: float = 0.0

    def take_in(self, reply: Reply) -> None:
        if not isinstance(reply, Result):
            self.rejections[str(reply.code)] += 1
            return
        self.exits[str(reply.exit)] += 1
        self.energy_mj += reply.energy_mj or 0.0
        if len(self.response_times_ms) < MAX_RESPONSE_TIMES:
            self.response_times_ms.append(reply.response_time_ms)

    def replies(self) -> int:
        return self.exits.total() + self.rejections.total()

    def telemetry(
        self, tenant: str, *, appliance: str, window_s: float, queue_length: int
    ) -> TenantTelemetry:
        percentiles = (
            np.percentile(self.response_times_ms, (50, 95, 99)) if self.response_times_ms else ()
        )
        return TenantTelemetry(
            tenant=tenant,
            appliance=appliance,
            window_s=round(window_s, 3),
            answered=self.exits.total(),
            rejected=self.rejections.total(),
            rate_per_s=round(self.replies() / window_s, 3),
            exits=self.exits,
            rejections=self.rejections,
            response_time_ms={
                name: round(float(value), 3)
                for name, value in zip(("p50", "p95", "p99"), percentiles, strict=False)
            },
            energy_mj=round(self.energy_mj, 6),
            energy_source="modelled",
            queue_length=queue_length,
        )


class Windows:
    """Each tenant's window; taken in by the thread that logs, taken out by the one that tells."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: defaultdict[str, Window] = defaultdict(Window)

    def take_in(self, reply: Reply) -> None:
        with self._lock:
            self._windows[reply.tenant].take_in(reply)

    def take_out(self) -> dict[str, Window]:
        """What has gathered, by tenant; the next windows start empty."""
        with self._lock:
            windows, self._windows = self._windows, defaultdict(Window)
        return dict(windows)
