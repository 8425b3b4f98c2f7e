"""One tenant on one appliance, as it was seen from outside."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from appliance.fleet.history import History
from appliance.fleet.marks import MAX_MARKS, Mark, MarkKind
from appliance.fleet.reports import MAX_EXITS
from appliance.messages import PolicyState, Reply, Result
from appliance.telemetry import TenantTelemetry

MAX_REPLIES = 50
RECENT_S = 60.0
"""What a tenant's standing is judged by."""

PEAKS = ("p99_ms", "p95_ms", "queue")


def exit_column(exit_: int) -> str:
    """The column with the answers a second that came from an exit."""
    return f"exit {exit_}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenReply:
    """A result or a rejection, and when it was seen."""

    at_s: float
    reply: Reply


class TenantView:
    """What is known of a tenant. Its history has the columns that `_figures` names."""

    def __init__(self, name: str, *, appliance: str) -> None:
        self.name = name
        self.appliance = appliance
        self.heard_s = 0.0
        """When it was last heard of, in seconds since the epoch."""
        self.telemetry: TenantTelemetry | None = None
        self.state: PolicyState | None = None
        self.history = History(peaks=PEAKS, sums=("window_s",))
        self.marks: deque[Mark] = deque(maxlen=MAX_MARKS)
        self.replies: deque[SeenReply] = deque(maxlen=MAX_REPLIES)
        """The latest, of those that were watched; the newest last."""
        self.exits = 0
        """How many exits it is known to have."""

    def take_telemetry(self, reading: TenantTelemetry, now_s: float) -> None:
        before, self.telemetry, self.heard_s = self.telemetry, reading, now_s
        if before is not None and before.mode != reading.mode:
            text = f"mode {reading.mode}" if reading.mode else "out of its modes"
            self.marks.append(Mark.of(MarkKind.MODE, text, now_s))
        self.exits = max(self.exits, *(int(name) + 1 for name in reading.exits), 0)
        self.history.append(now_s, _figures(reading, self.exits))

    def take_state(self, state: PolicyState, now_s: float, *, retained: bool) -> None:
        """Notes what is in force; what the broker kept from before is no news the first time."""
        before, self.state, self.heard_s = self.state, state, now_s
        self.exits = max(self.exits, min(len(state.feasibility), MAX_EXITS))
        if before is None and retained:
            return
        if state.version is not None and (before is None or before.version != state.version):
            text = f"policy version {state.version}"
            self.marks.append(Mark.of(MarkKind.POLICY, text, now_s))
        refused = state.last_rejection
        if refused is not None and (before is None or before.last_rejection != refused):
            text = f"policy turned away: {refused.code} {refused.reason}"
            self.marks.append(Mark.of(MarkKind.REJECTION, text, now_s))

    def take_reply(self, reply: Reply, now_s: float) -> None:
        self.heard_s = now_s
        self.replies.append(SeenReply(at_s=now_s, reply=reply))

    def remove_policy(self, now_s: float) -> None:
        """Notes that nothing is in force any more."""
        if self.state is not None:
            self.marks.append(Mark.of(MarkKind.POLICY, "policy removed", now_s))
        self.state = None
        self.telemetry = None

    def bound_kept(self, now_s: float, over_s: float = RECENT_S) -> float | None:
        """The fraction of the latest answers that kept every bound, None where there are none.

        Those of the last minute, or of the last telemetry where that covers more.
        """
        kept = self.history.since(now_s - over_s, "bound_kept")
        rates = self.history.since(now_s - over_s, "answered_per_s")
        known = ~np.isnan(kept) & (rates > 0.0)
        if not known.any():
            return None
        return float(np.average(kept[known], weights=rates[known]))

    @property
    def confidence(self) -> float | None:
        """The mean of the latest answers' confidences: as told, or of the replies seen."""
        if self.telemetry is not None and self.telemetry.confidence is not None:
            return self.telemetry.confidence
        seen = [one.reply.confidence for one in self.replies if isinstance(one.reply, Result)]
        return sum(seen) / len(seen) if seen else None


def _figures(reading: TenantTelemetry, exits: int) -> dict[str, float | None]:
    window_s = max(reading.window_s, 1e-3)
    budget = reading.budget
    figures: dict[str, float | None] = {
        "window_s": window_s,
        "rate_per_s": reading.rate_per_s,
        "answered_per_s": reading.answered / window_s,
        "rejected_per_s": reading.rejected / window_s,
        "p50_ms": reading.response_time_ms.get("p50"),
        "p95_ms": reading.response_time_ms.get("p95"),
        "p99_ms": reading.response_time_ms.get("p99"),
        "bound_ms": reading.bounds.response_time_ms,
        "bound_kept": reading.bound_kept,
        "confidence": reading.confidence,
        "energy_each_mj": reading.energy_mj / reading.answered if reading.answered else None,
        "energy_bound_mj": reading.bounds.energy_mj,
        "budget_left": None if budget is None else budget.remaining,
        "queue": float(reading.queue_length),
    }
    for exit_ in range(exits):
        figures[exit_column(exit_)] = reading.exits.get(str(exit_), 0) / window_s
    return figures
