"""All tasks that wait, in each of the orders in which they may be needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from appliance.engine import Engine
from appliance.lazy_heap import LazyHeap
from appliance.shares import Shares
from appliance.stage_times import StageTimes
from appliance.task import Task
from appliance.timeline import Timeline
from appliance.waiting import Entry, Group, Line, sample_entry

MOST_GIVING_WAY = 8
"""How many tasks may give way to one."""

SAMPLES_WAITING = 16
"""How many samples may wait to run on to the last exit, before no more are chosen."""

SAMPLE_PATIENCE_S = 2.0
"""How long a sample waits for an idle device."""


class WaitingRoom:
    """Keeps each waiting task in its tenant's line, in the group of its stage, and by its times.

    `times` gives the estimates of an engine's stages. What is urgent has its time reserved on the
    timeline.
    """

    def __init__(self, times: Callable[[Engine], StageTimes]) -> None:
        self.shares = Shares()
        self.timeline = Timeline()
        self.entries: dict[int, Entry] = {}
        """By the identity of the task; samples are apart."""
        self.samples: OrderedDict[int, Entry] = OrderedDict()
        self.lines: dict[str, Line] = {}
        self.groups: dict[tuple[int, int], Group] = {}
        self.urgent: LazyHeap[Entry] = LazyHeap(lambda _, entry: entry.live)
        """By when they are due."""
        self.last_starts: LazyHeap[Entry] = LazyHeap(lambda _, entry: entry.live)
        """Those with an answer, by when the exit that they want is too late for them."""
        self.rest_s = 0.0
        """How long all stages of all tasks take."""
        self._times = times
        self._standings: LazyHeap[Line] = LazyHeap(
            lambda standing, line: line.standing is standing and len(line.new) > 0
        )

    def __len__(self) -> int:
        return len(self.entries) + len(self.samples)

    def queue_lengths(self) -> dict[str, int]:
        """How many tasks of each tenant wait for their first stage."""
        return {tenant: len(line.new) for tenant, line in self.lines.items() if line.new}

    def group(self, task: Task) -> Group:
        """The tasks that wait for the same stage as this one is to wait for."""
        engine, stage = task.plan.engine, task.next_stage
        group = self.groups.get((id(engine), stage))
        if group is None:
            group = self.groups[id(engine), stage] = Group(stage, self._times(engine))
        return group

    def add(self, entry: Entry) -> None:
        """Puts a task in."""
        tenant = entry.task.request.tenant
        entry.rank(beyond=tenant in self.shares.beyond)
        self.entries[id(entry.task)] = entry
        line = self.lines.setdefault(tenant, Line(tenant))
        line.take_in(entry)
        self._take_standing(line, entry.task)
        self.rest_s += entry.rest_s
        entry.group.push(entry)
        if entry.urgent_s is not None:
            self.reserve(entry)
            self.urgent.push(entry.due_s, entry)
        if not entry.owed:
            self.last_starts.push(entry.last_start_s, entry)

    def remove(self, entry: Entry) -> None:
        """Takes a task out."""
        tenant = entry.task.request.tenant
        entry.live = False
        if self.samples.pop(id(entry.task), None) is not None:
            return
        del self.entries[id(entry.task)]
        line = self.lines[tenant]
        line.let_go(entry)
        if len(line):
            self._take_standing(line, entry.task)
        else:
            del self.lines[tenant]
        self.rest_s = self.rest_s - entry.rest_s if self.entries else 0.0
        self.release(entry)

    def add_sample(self, task: Task, now_s: float) -> None:
        """Puts in a sample that was answered: it runs on where nothing else has to, at first."""
        entry = sample_entry(task, self.group(task), now_s)
        self.samples[id(task)] = entry
        entry.group.push(entry)

    def has_samples_of(self, engine: Engine) -> bool:
        """Whether a sample waits that was answered and is still to run on."""
        return any(entry.task.plan.engine is engine for entry in self.samples.values())

    def drop_samples(self) -> None:
        """Takes all samples out."""
        for entry in self.samples.values():
            entry.live = False
        self.samples.clear()

    def fits(self, entry: Entry, now_s: float) -> bool:
        """Reserves the time for what is owed, unless that would make something late, this too."""
        if entry.urgent_s is None:
            return True
        times, stage = entry.group.times, entry.group.stage
        spare_s = times.careful_s[stage] - times.typical_s[stage]
        # A tight bound is tried all the same: more often than not the stage is quick enough.
        alone_s = entry.due_s - entry.task.request.received_s - entry.urgent_s
        spare_s = min(spare_s, max(0.0, alone_s / 2))
        self.reserve(entry)
        fits = self.timeline.latest_begin_s(now_s) >= now_s + spare_s
        if not fits:
            self.release(entry)
        return fits

    def reserve(self, entry: Entry) -> None:
        """Reserves the time for what is owed to a task."""
        if entry.urgent_s is not None and not entry.reserved:
            self.timeline.add(entry.due_s, entry.urgent_s)
            entry.reserved = True

    def release(self, entry: Entry) -> None:
        """Gives the reserved time back."""
        if entry.urgent_s is not None and entry.reserved:
            self.timeline.remove(entry.due_s, entry.urgent_s)
            entry.reserved = False

    def victims(self, entry: Entry) -> Iterator[Entry]:
        """The urgent tasks that have not begun and give way to another.

        They are those of the tenant with the lowest standing, where that is lower than that of
        this one's tenant would be.
        """
        policy = entry.task.plan.policy
        own = Line(policy.tenant)
        own.urgent_s = entry.urgent_s or 0.0
        if policy.tenant in self.lines:
            own.urgent_s += self.lines[policy.tenant].urgent_s
        beyond = policy.tenant in self.shares.beyond
        own.stand(beyond=beyond, priority=policy.priority, weight=policy.weight)
        lowest = self._standings.top()
        if lowest is None or lowest[1].tenant == policy.tenant or lowest[0] >= own.standing:
            return
        urgent = (e for e in lowest[1].new.values() if e.urgent_s is not None)
        yield from islice(urgent, MOST_GIVING_WAY)

    def rank_anew(self, tenant: str) -> None:
        """Ranks a tenant's tasks as it stands now."""
        line = self.lines.get(tenant)
        if line is None:
            return
        for entry in line:
            entry.rank(beyond=tenant in self.shares.beyond)
            entry.group.push(entry)
        self._take_standing(line, entry.task)

    def hurry_samples(self, now_s: float) -> None:
        """Ranks the samples first among what is optional that have waited for too long."""
        for entry in self.samples.values():
            if now_s - entry.due_s < SAMPLE_PATIENCE_S:
                return
            entry.hurry()
            entry.group.push(entry)

    def forget(self, engine: Engine) -> None:
        """Forgets an engine for which no task waits any more."""
        for stage in range(len(engine.stages)):
            self.groups.pop((id(engine), stage), None)

    def _take_standing(self, line: Line, task: Task) -> None:
        policy = task.plan.policy
        beyond = line.tenant in self.shares.beyond
        line.stand(beyond=beyond, priority=policy.priority, weight=policy.weight)
        if line.new:
            self._standings.push(line.standing, line)
