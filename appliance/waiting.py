"""Tasks that wait for a stage: each with what it is owed, by when, and what more it may gain."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.lazy_heap import LazyHeap
from appliance.stage_times import StageTimes
from appliance.task import Task
from appliance.timeline import HORIZON_S

UNBOUNDED_DEADLINE_S = 1.0
"""Where a task without a bound on response time stands in the queue: as if it had this one."""

ANSWER_S, ANSWER_PART = 0.001, 0.05
"""How long before its deadline an answer is let go: so long, or that part of its bound."""


@dataclass(kw_only=True, slots=True, eq=False)
class Entry:
    """A task that waits for its next stage. Times in monotonic seconds."""

    task: Task
    group: Group
    due_s: float
    """By when it is to have the answer that it is owed, or is answered with the one it has."""
    owed: bool
    """Whether it needs the stage for an answer that satisfies its policy."""
    urgent_s: float | None
    """The work that is owed to it by then, None where nothing is."""
    wanted_s: float
    """How long its stages take to the exit that it wants."""
    rest_s: float
    """How long they take to the last one."""
    gain: float
    """The accuracy that the exit it wants is expected to add."""
    key: tuple[float, ...] = ()
    """Its rank: the smallest runs first."""
    live: bool = True
    reserved: bool = False
    """Whether the time for what is owed stands on the timeline."""

    @property
    def last_start_s(self) -> float:
        """From when on it cannot reach the exit that it wants in time."""
        return self.due_s - self.wanted_s

    def rank(self, *, beyond: bool) -> None:
        """Ranks it: tenants within their share first, then what is owed, priority, urgency."""
        priority = -self.task.plan.policy.priority
        if self.owed:
            self.key = (float(beyond), 0.0, priority, self.due_s)
        else:
            usefulness = self.gain / max(self.wanted_s, 1e-9)
            self.key = (float(beyond), 1.0, priority, -usefulness, self.due_s)

    def hurry(self) -> None:
        """Ranks it first among what is optional."""
        self.key = (0.0, 1.0, -math.inf, -math.inf, self.due_s)


def _entries() -> LazyHeap[Entry]:
    return LazyHeap(lambda key, entry: entry.live and entry.key is key)


@dataclass(slots=True, eq=False)
class Group:
    """The tasks that wait for the same stage of the same engine, and so could share a run."""

    stage: int
    times: StageTimes
    owed: LazyHeap[Entry] = field(default_factory=_entries)
    optional: LazyHeap[Entry] = field(default_factory=_entries)
    samples: LazyHeap[Entry] = field(default_factory=_entries)
    probed_s: float = -math.inf
    """When a task was last tried that was thought to be too late."""

    def push(self, entry: Entry) -> None:
        heap = self.samples if entry.task.closed else self.owed if entry.owed else self.optional
        heap.push(entry.key, entry)


@dataclass(slots=True, eq=False)
class Line:
    """One tenant's tasks, the oldest first."""

    tenant: str
    new: OrderedDict[int, Entry] = field(default_factory=OrderedDict)
    begun: OrderedDict[int, Entry] = field(default_factory=OrderedDict)
    urgent_s: float = 0.0
    """The work that is owed to them by their deadlines."""
    rest_s: float = 0.0
    """How long all of their stages take."""
    standing: tuple[bool, int, float] = (True, 0, 0.0)
    """The smaller, the sooner its tasks give way to others'."""

    def __len__(self) -> int:
        return len(self.new) + len(self.begun)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.new.values()
        yield from self.begun.values()

    def oldest_new(self) -> Entry | None:
        return next(iter(self.new.values()), None)

    def oldest_answered(self) -> Entry | None:
        """The oldest task that has an answer, and waits for a better one."""
        return next((entry for entry in self.begun.values() if not entry.owed), None)

    def stand(self, *, beyond: bool, priority: int, weight: float) -> None:
        """Takes its standing: beyond its share, of low priority, with much to do for its weight."""
        self.standing = (not beyond, priority, -self.urgent_s / weight)

    def take_in(self, entry: Entry) -> None:
        (self.new if entry.task.started_s is None else self.begun)[id(entry.task)] = entry
        self.rest_s += entry.rest_s
        self.urgent_s += entry.urgent_s or 0.0

    def let_go(self, entry: Entry) -> None:
        if self.new.pop(id(entry.task), None) is None:
            del self.begun[id(entry.task)]
        # Where nothing is left, what rounding left goes too.
        self.rest_s = self.rest_s - entry.rest_s if len(self) else 0.0
        self.urgent_s = self.urgent_s - (entry.urgent_s or 0.0) if len(self) else 0.0


def owed_entry(task: Task, group: Group, now_s: float) -> Entry:
    """The entry of a task that needs its next stage for an answer that satisfies its policy."""
    due_s, urgent_s = due_of(task), None
    typical_s, stage = group.times.typical_s, group.stage
    if due_s - now_s < HORIZON_S:
        last = task.plan.owed_exit if task.wish is None else task.wish.exit
        urgent_s = sum(typical_s[stage : last + 1])
    else:
        due_s = task.request.received_s + UNBOUNDED_DEADLINE_S
    return Entry(
        task=task,
        group=group,
        due_s=due_s,
        owed=True,
        urgent_s=urgent_s,
        wanted_s=typical_s[stage],
        rest_s=sum(typical_s[stage:]),
        gain=math.inf,
    )


def optional_entry(task: Task, group: Group, gain: float) -> Entry:
    """The entry of a task that has an answer, and waits for a better one."""
    typical_s, stage, wish = group.times.typical_s, group.stage, task.wish
    last = stage if wish is None else wish.exit
    return Entry(
        task=task,
        group=group,
        due_s=due_of(task),
        owed=False,
        urgent_s=None,
        wanted_s=sum(typical_s[stage : last + 1]),
        rest_s=sum(typical_s[stage:]),
        gain=gain,
    )


def sample_entry(task: Task, group: Group, now_s: float) -> Entry:
    """The entry of a sample that was answered, and waits for nothing but an idle device."""
    stage_s = group.times.typical_s[group.stage]
    return Entry(
        task=task,
        group=group,
        due_s=now_s,
        owed=False,
        urgent_s=None,
        wanted_s=stage_s,
        rest_s=stage_s,
        gain=0.0,
        key=(2.0, now_s),
    )


def due_of(task: Task) -> float:
    """When a task's answer is to be let go, infinite where its policy sets no time."""
    deadline_s = task.deadline_s
    if deadline_s is None:
        return math.inf
    return deadline_s - min(ANSWER_S, ANSWER_PART * (deadline_s - task.request.received_s))
