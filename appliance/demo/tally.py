"""What a tenant's sensor got back, counted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from appliance.messages import Reply, Result
from appliance.plan import StoppedBy


@dataclass(kw_only=True)
class Tally:
    """Replies, with what is known of the frames that they answer."""

    exits: dict[int, int]
    """How many answers came from each exit."""
    answered: int = 0
    rejected: int = 0
    kept: int = 0
    """Answers within every bound of the policy that was in force for them."""
    right: int = 0
    energy_j: float = 0.0
    over_budget: int = 0
    """Answers that a budget kept from going deeper."""
    response_times_s: list[float] = field(default_factory=list)

    def take(self, reply: Reply, *, true_label: str) -> None:
        """Counts a reply to a frame of which `true_label` is known."""
        if not isinstance(reply, Result):
            self.rejected += 1
            return
        self.answered += 1
        self.exits[reply.exit] += 1
        self.kept += not reply.unmet
        self.right += reply.label == true_label
        self.energy_j += (reply.energy_mj or 0.0) * 1e-3
        self.over_budget += reply.stopped_by == StoppedBy.BUDGET.value
        self.response_times_s.append(reply.response_time_ms * 1e-3)

    @property
    def accuracy(self) -> float | None:
        """The fraction of answers that are right, None where there are none."""
        return self._fraction(self.right)

    @property
    def bound_kept(self) -> float | None:
        return self._fraction(self.kept)

    @property
    def energy_each_j(self) -> float | None:
        """Joules an answer, on average."""
        return self.energy_j / self.answered if self.answered else None

    def percentile_s(self, percent: float) -> float | None:
        """A percentile of the response times in seconds, None where there are none."""
        if not self.response_times_s:
            return None
        return float(np.percentile(self.response_times_s, percent))

    def _fraction(self, count: int) -> float | None:
        return count / self.answered if self.answered else None


@dataclass(kw_only=True)
class TenantTally:
    """All that one tenant got back, in whole and by the version of the policy in force."""

    exits: int
    """How many exits the engine has."""
    sent: int = 0
    total: Tally = field(init=False)
    by_version: dict[int, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total = self._new()

    def take(self, reply: Reply, *, true_label: str) -> None:
        """Counts a reply, in whole and under the policy that it came to pass under."""
        self.total.take(reply, true_label=true_label)
        if reply.policy_version is not None:
            self.version(reply.policy_version).take(reply, true_label=true_label)

    def version(self, number: int) -> Tally:
        """What came back under one version; nothing yet where none was seen."""
        return self.by_version.setdefault(number, self._new())

    def _new(self) -> Tally:
        return Tally(exits=dict.fromkeys(range(self.exits), 0))
