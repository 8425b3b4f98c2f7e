"""Whose stage runs next."""

from __future__ import annotations

import heapq
from collections import OrderedDict, defaultdict
from itertools import count

from appliance.task import Task

UNBOUNDED_DEADLINE_S = 1.0
"""Where a task without a bound on response time stands in the queue: as if it had this one."""


class Scheduler:
    """Queues tasks and picks the next one: highest priority first, then earliest deadline.

    Pure and deterministic: it decides between stages by what it was given. A task without a bound
    is ordered as if it had one of a second, so that it waits for urgent ones but not for ever.
    """

    def __init__(self) -> None:
        self._ready: list[tuple[int, float, int, Task]] = []
        self._waiting: defaultdict[str, OrderedDict[int, Task]] = defaultdict(OrderedDict)
        self._ticket = count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def submit(self, task: Task) -> Task | None:
        """Queues a task; where its tenant's queue is full, returns the one that is shed for it.

        By the policy that is the tenant's oldest waiting task, or the new one itself. A task that
        has started is never shed.
        """
        tenant, queue = task.request.tenant, task.plan.policy.queue
        waiting = self._waiting[tenant]
        shed = None
        if len(waiting) >= queue.limit:
            if queue.full == "reject":
                return task
            _, shed = waiting.popitem(last=False)
            self._length -= 1
            self._forget_shed()
        waiting[id(task)] = task
        self._length += 1
        self._push(task)
        return shed

    def resume(self, task: Task) -> None:
        """Queues a task that has run a stage and goes on."""
        self._length += 1
        self._push(task)

    def next(self) -> Task | None:
        """Takes out the task whose stage runs next, or None where nothing waits."""
        while self._ready:
            task = heapq.heappop(self._ready)[-1]
            if task.started_s is None and not self._leave_queue(task):
                continue
            self._length -= 1
            return task
        return None

    def queue_lengths(self) -> dict[str, int]:
        """How many tasks of each tenant wait for their first stage."""
        return {tenant: len(waiting) for tenant, waiting in self._waiting.items()}

    def _push(self, task: Task) -> None:
        bound_s = task.response_time_bound_s
        bound_s = UNBOUNDED_DEADLINE_S if bound_s is None else bound_s
        deadline_s = task.request.received_s + bound_s
        entry = (-task.plan.policy.priority, deadline_s, next(self._ticket), task)
        heapq.heappush(self._ready, entry)

    def _forget_shed(self) -> None:
        # Shed tasks stay in the heap until they are met; where that takes long they are swept out,
        # at a cost that their number has paid for.
        if len(self._ready) <= 2 * self._length + 64:
            return
        self._ready = [entry for entry in self._ready if self._is_queued(entry[-1])]
        heapq.heapify(self._ready)

    def _is_queued(self, task: Task) -> bool:
        if task.started_s is not None:
            return True
        waiting = self._waiting.get(task.request.tenant)
        return waiting is not None and id(task) in waiting

    def _leave_queue(self, task: Task) -> bool:
        """Takes a task that is to start from its tenant's queue; false where it had been shed."""
        waiting = self._waiting[task.request.tenant]
        found = waiting.pop(id(task), None) is not None
        if not waiting:
            del self._waiting[task.request.tenant]
        return found
