"""What came of one tenant's requests."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.errors import Code
from appliance.plan import Plan, StoppedBy
from appliance.task import Task

OWN_MODE = "policy"
"""What a tenant's mode is called where none of its policy's modes is in force."""


class Frame(NamedTuple):
    """What a request's frame shows, None where nobody knows, and what the last exit sees in it."""

    shows: int | None
    last: int


@dataclass(kw_only=True)
class Tally:
    """Counts one tenant's requests and what became of them. Times are simulated seconds."""

    plan: Plan
    recorded: bool
    """Whether accuracy is that on frames which the network has seen; else the profile's."""
    arrived_s: array[float] = field(default_factory=lambda: array("d"))
    answered_at_s: array[float] = field(default_factory=lambda: array("d"))
    """When each request came that was answered, in the order of the answers."""
    response_times_s: array[float] = field(default_factory=lambda: array("d"))
    exits: array[int] = field(default_factory=lambda: array("h"))
    rejected: Counter[Code] = field(default_factory=Counter)
    stopped_by: Counter[StoppedBy] = field(default_factory=Counter)
    energy_j: float = 0.0
    """All that its stages cost, those of rejected requests among them."""
    _agreed: int = 0
    _labelled: int = 0
    _right: int = 0
    _bounded: int = 0
    _in_bound: int = 0
    _mode: str = OWN_MODE
    _since_s: float = 0.0
    _modes_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def came(self, at_s: float) -> None:
        """Counts a request."""
        self.arrived_s.append(at_s)

    def answered(self, task: Task, frame: Frame) -> None:
        """Counts an answer to a frame."""
        metrics, why = task.metrics, task.stopped_by
        if metrics is None or why is None or task.probabilities is None:
            raise ValueError(f"the task {task.request.id} has no answer")
        self.answered_at_s.append(task.request.received_s)
        self.response_times_s.append(metrics.response_time)
        self.exits.append(metrics.exit)
        self.stopped_by[why] += 1
        said = int(task.probabilities.argmax())
        self._agreed += said == frame.last
        if frame.shows is not None:
            self._labelled += 1
            self._right += said == frame.shows
        bound_s = task.plan.policy.bounds.response_time
        if bound_s is not None:
            self._bounded += 1
            self._in_bound += metrics.response_time <= bound_s

    def turned_away(self, task: Task, code: Code) -> None:
        """Counts a rejection."""
        self.rejected[code] += 1
        if task.plan.policy.bounds.response_time is not None:
            self._bounded += 1

    def changed(self, mode: str | None, now_s: float) -> None:
        """Notes that another mode is in force from now on."""
        self._modes_s[self._mode] += now_s - self._since_s
        self._mode = OWN_MODE if mode is None else mode
        self._since_s = now_s

    def close(self, now_s: float, energy_j: float) -> None:
        """Notes the end."""
        self.changed(None, now_s)
        self.energy_j = energy_j

    @property
    def answers(self) -> int:
        return len(self.exits)

    @property
    def bound_kept(self) -> float | None:
        """The fraction of requests answered within the bound on response time; None without one."""
        return self._in_bound / self._bounded if self._bounded else None

    @property
    def accuracy(self) -> float | None:
        """The fraction of answers that were right, of those to frames whose label is known."""
        return self._right / self._labelled if self._labelled else None

    @property
    def agreement(self) -> float | None:
        """The fraction of answers that the last exit would have given as well."""
        return self._agreed / self.answers if self.answers else None

    def percentile_s(self, percent: float) -> float | None:
        """Of the response times; None where nothing was answered."""
        if not self.response_times_s:
            return None
        return float(np.percentile(np.frombuffer(self.response_times_s), percent))

    def exit_counts(self) -> NDArray[np.int64]:
        """How many answers each exit gave, shape (exits,)."""
        return np.bincount(
            np.frombuffer(self.exits, np.int16), minlength=len(self.plan.engine.stages)
        )

    def mode_shares(self) -> Mapping[str, float]:
        """The fraction of the time that each mode was in force; the policy itself among them."""
        whole_s = math.fsum(self._modes_s.values()) or 1.0
        return {mode: seconds / whole_s for mode, seconds in self._modes_s.items()}
