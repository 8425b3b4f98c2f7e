"""One appliance, as it was seen from outside."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from enum import Enum

from appliance.fleet.history import History
from appliance.fleet.marks import MAX_MARKS, Mark, MarkKind
from appliance.fleet.reports import Status
from appliance.messages import Reply, Result
from appliance.telemetry import ApplianceTelemetry

SILENT_AFTER_S = 15.0
SILENT_AFTER_WINDOWS = 3.0
"""After so much time without telemetry an appliance that is said to be online is called silent."""

CLOCK_OFF_S = 5.0
"""From what difference on clocks are said to differ; less may be the way of a message."""


class Standing(str, Enum):
    """How an appliance stands, to whoever watches."""

    ONLINE = "online"
    SILENT = "silent"
    """It is said to be online, but tells nothing."""
    STOPPED = "stopped"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    """Only its tenants were heard of."""


class ApplianceView:
    """What is known of an appliance. Rails are columns `rail NAME`, temperatures `temp NAME`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: Status | None = None
        self.telemetry: ApplianceTelemetry | None = None
        self.told_s: float | None = None
        """When its telemetry last came, in seconds since the epoch."""
        self.heard_s = 0.0
        self.history = History(peaks=("queue",))
        self.marks: deque[Mark] = deque(maxlen=MAX_MARKS)
        self.clock_ahead_s: float | None = None
        """How far its clock is ahead of the watcher's, None while that is not known."""

    def take_status(self, status: Status, now_s: float, *, retained: bool) -> None:
        if status != self.status and not (retained and self.status is None):
            self.marks.append(Mark.of(MarkKind.STATUS, status.value, now_s))
        self.status, self.heard_s = status, now_s

    def take_telemetry(self, reading: ApplianceTelemetry, now_s: float) -> None:
        self.telemetry, self.told_s, self.heard_s = reading, now_s, now_s
        power = reading.power
        figures: dict[str, float | None] = {
            "power_w": power.power_w,
            "idle_w": power.idle_w,
            "queue": float(reading.queue_length),
            "rate_per_s": sum(reading.tenants.values()) / max(reading.window_s, 1e-3),
        }
        figures.update({f"rail {name}": rail_w for name, rail_w in power.rails_w.items()})
        figures.update({f"temp {name}": t for name, t in power.temperatures_c.items()})
        self.history.append(now_s, figures)

    def take_reply(self, reply: Reply, now_s: float) -> None:
        """Compares clocks, by a reply that has just come."""
        try:
            arrived = datetime.fromisoformat(reply.arrived_at)
        except ValueError:
            return
        if arrived.tzinfo is None:
            return
        took_s = reply.response_time_ms * 1e-3 if isinstance(reply, Result) else 0.0
        self.clock_ahead_s = arrived.timestamp() + took_s - now_s

    @property
    def clock_off_s(self) -> float | None:
        """How far its clock is ahead, where that is more than messages take; else None."""
        ahead_s = self.clock_ahead_s
        return ahead_s if ahead_s is not None and abs(ahead_s) > CLOCK_OFF_S else None

    def standing(self, now_s: float) -> Standing:
        """How it stands now."""
        if self.status is None and self.telemetry is None:
            return Standing.UNKNOWN
        if self.status in (Status.STOPPED, Status.OFFLINE):
            return Standing(self.status.value)
        window_s = 0.0 if self.telemetry is None else self.telemetry.window_s
        patience_s = max(SILENT_AFTER_S, SILENT_AFTER_WINDOWS * window_s)
        since_s = self.heard_s if self.told_s is None else self.told_s
        return Standing.SILENT if now_s - since_s > patience_s else Standing.ONLINE

    @property
    def power_w(self) -> float | None:
        """What its meter reads, None without one."""
        return None if self.telemetry is None else self.telemetry.power.power_w

    @property
    def rate_per_s(self) -> float | None:
        """Requests a second that it dealt with, in its last window."""
        if self.telemetry is None:
            return None
        return sum(self.telemetry.tenants.values()) / max(self.telemetry.window_s, 1e-3)
