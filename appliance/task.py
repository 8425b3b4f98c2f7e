"""One request in flight, and what it has cost and answered so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.agreement import ExitAnswer
from appliance.conditions import ExitMetrics
from appliance.energy import EnergySource, StageRun
from appliance.messages import Request, RequestKey
from appliance.plan import Plan, StoppedBy, Wish


@dataclass(kw_only=True, slots=True, eq=False)
class Task:
    """One request in flight. Times are monotonic seconds.

    `features` is the decoded frame at first, shape (1, *input), then what the last stage left for
    the next one, the backend's own handle.
    """

    request: Request
    key: RequestKey | None = None
    plan: Plan
    features: Any
    started_s: float | None = None
    metrics: ExitMetrics | None = None
    """What is known since its last exit, None before the first."""
    probabilities: NDArray[np.float32] | None = None
    wish: Wish | None = None
    """The exit that it wants next, None before the first and once it has stopped."""
    stopped_by: StoppedBy | None = None
    answered_s: float | None = None
    """When its answer was given, or its rejection."""
    answered_at: int | None = None
    """The exit that its answer came from."""
    agrees: bool | None = None
    """Whether its answer is sure enough to agree with the last exit, None where nobody asks."""
    sample: bool = False
    """Whether it is to run on to the last exit after its answer, to see what that says."""
    trajectory: list[ExitAnswer] = field(default_factory=list)
    """What each exit said to a sample."""
    runs: list[StageRun] = field(default_factory=list)
    frame_bytes: int = 0
    """What its decoded frame took in memory, which counts until it is answered."""
    energy_source: EnergySource = EnergySource.MODELLED

    @property
    def next_stage(self) -> int:
        return 0 if self.metrics is None else self.metrics.exit + 1

    @property
    def closed(self) -> bool:
        """Whether it was answered or rejected."""
        return self.answered_s is not None

    @property
    def queue_time_s(self) -> float:
        """How long the task waited for its first stage."""
        return 0.0 if self.started_s is None else self.started_s - self.request.received_s

    @property
    def response_time_bound_s(self) -> float | None:
        """The policy's bound on response time, shortened by the message's expiry."""
        bound_s, expires_s = self.plan.policy.bounds.response_time, self.request.expires_s
        if expires_s is None:
            return bound_s
        expiry_s = expires_s - self.request.received_s
        return expiry_s if bound_s is None else min(bound_s, expiry_s)

    @property
    def deadline_s(self) -> float | None:
        """When it must be answered at the latest, None where its policy sets no time."""
        bound_s = self.response_time_bound_s
        return None if bound_s is None else self.request.received_s + bound_s
