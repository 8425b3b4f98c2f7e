"""Whose stage runs next, and who is answered or turned away instead."""

from __future__ import annotations

import math
from collections.abc import Callable

from appliance.engine import Engine
from appliance.errors import Code
from appliance.lazy_heap import LazyHeap
from appliance.plan import StoppedBy
from appliance.quantities import Dimension, format_quantity
from appliance.stage_times import WORTHWHILE, StageTimes
from appliance.task import Task
from appliance.waiting import Entry, due_of, optional_entry, owed_entry
from appliance.waiting_room import SAMPLES_WAITING, WaitingRoom

BACKLOG_PART = 0.5
"""How much of the time that others leave it a tenant beyond its share may have queued: the rest is
for bursts of theirs."""

PROBE_PART = 0.1
"""The part of the device's time in which requests are tried although their first exit is thought to
be too far: else nothing would ever show that the machine is faster again."""

BLOCKED_PRICE = 1.0
"""What a request that comes too late for its bound weighs against the accuracy of others."""


class Scheduler:
    """Decides after every stage. Pure and deterministic: it is told the time.

    What a task needs for its first answer that satisfies its policy is owed, deeper exits are
    optional. Owed stages go by earliest deadline within priority; optional ones by the accuracy
    that they are expected to add in a second. Tenants beyond their share of the device (see
    `Shares`) go after those within. But no stage is begun that would make an admitted task late
    (see `Timeline`): then the earliest deadline runs. A task whose deadline comes, or whose next
    exit would be too late, is answered from its latest exit.

    `times` gives the estimates of an engine's stages. `answer` is called with a task that is
    answered from the exit it has, `reject` with one that gets no answer; both from within the
    calls of this class.
    """

    def __init__(
        self,
        *,
        times: Callable[[Engine], StageTimes],
        answer: Callable[[Task, StoppedBy], None],
        reject: Callable[[Task, Code, str], None],
    ) -> None:
        self.room = WaitingRoom(times)
        self.shares = self.room.shares
        self._answer = answer
        self._reject = reject
        self._timers: LazyHeap[Task] = LazyHeap(lambda _, task: not task.closed)

    def __len__(self) -> int:
        return len(self.room)

    def next_timer_s(self) -> float:
        """When a task is to be answered or turned away at the latest; infinite for never."""
        top = self._timers.top()
        return math.inf if top is None else top[0]

    def submit(self, task: Task, now_s: float) -> None:
        """Queues a new task, or turns away it or another, by its tenant's queue and the time."""
        if task.deadline_s is not None and task.deadline_s <= now_s:
            self._reject(task, Code.EXPIRED, _late(task))
            return
        if not self._make_room(task):
            return
        entry = owed_entry(task, self.room.group(task), now_s)
        policy = task.plan.policy
        self.shares.arrived(
            policy.tenant,
            weight=policy.weight,
            tolerance_s=due_of(task) - now_s - entry.group.times.careful_s[0],
            now_s=now_s,
        )
        if not self._admit(entry, now_s):
            self._turn_away(entry, now_s)
            return
        self.room.add(entry)
        if task.deadline_s is not None:
            self._timers.push(task.deadline_s, task)

    def resume(self, task: Task, now_s: float, *, gain: float) -> None:
        """Queues a task again that has run a stage and wants a deeper exit.

        `gain` is the accuracy that the exit is expected to add. Where it would be too late for
        it, the task is answered.
        """
        due_s, group = due_of(task), self.room.group(task)
        for_floor = task.wish is not None and task.wish.for_floor
        if due_s < math.inf:
            self._timers.push(due_s, task)
        if due_s == math.inf or for_floor:
            owed = owed_entry(task, group, now_s)
            if self.room.fits(owed, now_s):
                self.room.add(owed)
                return
        entry = optional_entry(task, group, math.inf if for_floor else gain)
        if entry.last_start_s < now_s:
            self._answer(task, StoppedBy.RESPONSE_TIME)
        else:
            self.room.add(entry)

    def run_on(self, task: Task, now_s: float) -> None:
        """Queues a sample that was answered, to run on to the last exit."""
        self.room.add_sample(task, now_s)

    def has_room_for_sample(self) -> bool:
        """Whether another request may be chosen to run on to the last exit."""
        return len(self.room.samples) < SAMPLES_WAITING

    def next(self, now_s: float) -> list[Task]:
        """Takes out the tasks whose stage runs next as one batch; none where nothing may run."""
        self.fire(now_s)
        while (top := self.room.last_starts.top()) is not None and top[0] < now_s:
            self._answer_waiting(top[1], StoppedBy.RESPONSE_TIME)
        if self.shares.is_due(now_s):
            for tenant in self.shares.refresh(now_s, self.room.queue_lengths()):
                self.room.rank_anew(tenant)
            self.room.hurry_samples(now_s)
        chosen = self._choose(now_s)
        if chosen is None:
            self._answer_unworthy()
            return []
        batch = self._batch_with(chosen, now_s)
        stage, times = chosen.group.stage, chosen.group.times
        self._answer_before(now_s + times.careful_batch_s(stage, len(batch)))
        return [entry.task for entry in batch]

    def is_free_for(self, span_s: float) -> bool:
        """Whether nobody waits, or is expected to come and be too late for such a while."""
        return not self.room.entries and self.shares.blocked(span_s) <= 0.0

    def fire(self, now_s: float) -> None:
        """Answers or turns away every task whose time has come, those that run among them."""
        while (top := self._timers.top()) is not None and top[0] <= now_s:
            task = top[1]
            self._timers.pop()
            deadline_s = due_of(task) if task.metrics is not None else task.deadline_s
            if deadline_s is None or deadline_s > now_s:
                # Its policy has changed, and gives it longer.
                if deadline_s is not None and deadline_s < math.inf:
                    self._timers.push(deadline_s, task)
                continue
            entry = self.room.entries.get(id(task))
            if entry is not None:
                self.room.remove(entry)
            if task.metrics is None:
                self._reject(task, Code.EXPIRED, _late(task))
            else:
                self._answer(task, StoppedBy.RESPONSE_TIME)

    def answer_all(self) -> None:
        """Answers every waiting task that has an answer, and lets samples go."""
        self.room.drop_samples()
        for entry in [entry for line in self.room.lines.values() for entry in line.begun.values()]:
            if not entry.owed:
                self._answer_waiting(entry, StoppedBy.LOAD)

    # Who may come in.

    def _make_room(self, task: Task) -> bool:
        """Keeps a tenant's queue within its limit; false where the new task itself is shed."""
        queue, line = task.plan.policy.queue, self.room.lines.get(task.request.tenant)
        if line is None or len(line) < queue.limit:
            return True
        answered = line.oldest_answered()
        if answered is not None:
            self._answer_waiting(answered, StoppedBy.LOAD)
            return True
        oldest = line.oldest_new() if queue.full == "drop-oldest" else None
        if oldest is not None:
            self.room.remove(oldest)
        self._reject(
            task if oldest is None else oldest.task,
            Code.TOO_MANY,
            f"the tenant's queue is full ({queue.limit} requests, {queue.full}):"
            " send less, or raise queue.limit",
        )
        return oldest is not None

    def _admit(self, entry: Entry, now_s: float) -> bool:
        """Whether a new task can have its first answer in time, beside all that were admitted.

        Where it cannot have the one that keeps its accuracy floor, any will do. Where it cannot
        have any, tasks of the tenant with the lowest standing that have not begun give way to it.
        """
        if entry.urgent_s is None:
            return True
        if entry.due_s - entry.task.request.received_s < entry.group.times.typical_s[0]:
            return self._is_probe(entry, now_s)
        if self._is_too_much(entry, now_s):
            return False
        if self.room.fits(entry, now_s):
            return True
        entry.urgent_s = entry.wanted_s
        given_way: list[Entry] = []
        victims = self.room.victims(entry)
        while not (fits := self.room.fits(entry, now_s)) and (victim := next(victims, None)):
            self.room.release(victim)
            given_way.append(victim)
        for victim in given_way:
            if fits:
                self.room.remove(victim)
                self._turn_away(victim, now_s)
            else:
                self.room.reserve(victim)
        return fits

    def _is_probe(self, entry: Entry, now_s: float) -> bool:
        """Whether a request is to be tried that is too late even on an idle device.

        It may not make any other late, so that nothing is reserved for it.
        """
        if now_s - entry.group.probed_s < entry.group.times.typical_s[0] / PROBE_PART:
            return False
        entry.group.probed_s = now_s
        entry.urgent_s = None
        return True

    def _is_too_much(self, entry: Entry, now_s: float) -> bool:
        """Whether a tenant beyond its share has more urgent work than others leave it time for."""
        tenant, beyond = entry.task.request.tenant, self.shares.beyond
        if tenant not in beyond:
            return False
        line = self.room.lines.get(tenant)
        urgent_s = (entry.urgent_s or 0.0) + (0.0 if line is None else line.urgent_s)
        others_s = self.room.rest_s - sum(
            self.room.lines[b].rest_s for b in beyond if b in self.room.lines
        )
        left_s = self.shares.rate(tenant) * (entry.due_s - now_s - others_s)
        return urgent_s > BACKLOG_PART * left_s

    def _turn_away(self, entry: Entry, now_s: float) -> None:
        task = entry.task
        ready_s = (
            now_s
            - task.request.received_s
            + self.room.timeline.work_until_s(entry.due_s, now_s)
            + entry.wanted_s
        )
        self._reject(
            task,
            Code.TOO_MANY,
            f"its first exit is some {format_quantity(ready_s, Dimension.TIME)} away, with what is"
            f" due before it, and its bound is {_bound(task)}: send less, or allow more time",
        )

    # Who runs.

    def _choose(self, now_s: float) -> Entry | None:
        """The first by rank among those whose stage makes nobody late, else the most urgent."""
        slack_s = self.room.timeline.latest_begin_s(now_s) - now_s
        top = self.room.urgent.top()
        most_urgent = None if top is None else top[1]
        best: Entry | None = None
        for group in self.room.groups.values():
            stage_s = group.times.careful_s[group.stage]
            for heap in (group.owed, group.optional, group.samples):
                if (top := heap.top()) is None or (best is not None and best.key <= top[0]):
                    continue
                entry = top[1]
                if (stage_s <= slack_s or entry is most_urgent) and self._is_worth(entry, stage_s):
                    best = entry
        return most_urgent if best is None else best

    def _is_worth(self, entry: Entry, stage_s: float) -> bool:
        """Whether an optional stage adds more than is lost with those who cannot await its end."""
        return (
            entry.owed
            or entry.task.closed
            or entry.gain >= BLOCKED_PRICE * self.shares.blocked(stage_s)
        )

    def _batch_with(self, chosen: Entry, now_s: float) -> list[Entry]:
        """Takes out a task, and those that share its run where that pays and makes nobody late."""
        group = chosen.group
        times, stage = group.times, group.stage
        self.room.remove(chosen)
        batch = [chosen]
        for heap in (group.owed, group.optional):
            while len(batch) < times.largest_batch[stage] and (top := heap.pop()) is not None:
                self.room.remove(top[1])
                batch.append(top[1])
        left_out = []
        while len(batch) > 1 and not self._may_share(batch, now_s):
            left_out.append(batch.pop())
        for entry in reversed(left_out):
            entry.live = True
            self.room.add(entry)
        return batch

    def _may_share(self, batch: list[Entry], now_s: float) -> bool:
        group, size = batch[0].group, len(batch)
        times, stage = group.times, group.stage
        ends_s = now_s + times.careful_batch_s(stage, size)
        pays = times.typical_batch_s(stage, size) <= WORTHWHILE * size * times.typical_s[stage]
        in_time = all(ends_s <= entry.due_s or entry.due_s < now_s for entry in batch)
        return pays and in_time and ends_s <= self.room.timeline.latest_begin_s(now_s)

    # Who is answered.

    def _answer_before(self, end_s: float) -> None:
        """Answers the waiting tasks whose time comes before a stage's end: they can win no more."""
        others = []
        while (top := self._timers.pop()) is not None:
            entry = self.room.entries.get(id(top[1]))
            if top[0] > end_s or entry is None or entry.owed:
                others.append(top)
            else:
                self._answer_waiting(entry, StoppedBy.RESPONSE_TIME)
            if top[0] > end_s:
                break
        for time_s, task in others:
            self._timers.push(time_s, task)

    def _answer_unworthy(self) -> None:
        """Answers the tasks whose next stage is worth less than the readiness for others."""
        for group in self.room.groups.values():
            stage_s = group.times.careful_s[group.stage]
            while (top := group.optional.top()) is not None and not self._is_worth(top[1], stage_s):
                self._answer_waiting(top[1], StoppedBy.LOAD)

    def _answer_waiting(self, entry: Entry, why: StoppedBy) -> None:
        self.room.remove(entry)
        self._answer(entry.task, why)


def _late(task: Task) -> str:
    if task.started_s is None:
        return "the time for its answer was over while its frame waited in the queue"
    return f"no exit was reached within {_bound(task)}: its stage took longer than was foreseen"


def _bound(task: Task) -> str:
    return format_quantity(task.response_time_bound_s or 0.0, Dimension.TIME)
