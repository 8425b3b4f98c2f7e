"""An appliance without its edges, under a simulated clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from appliance.adaptation import ModeChange
from appliance.answer import Answer, read_answer
from appliance.backends.protocol import run_one_by_one
from appliance.budgets import Balance
from appliance.dispatcher import Dispatcher
from appliance.engine import Engine
from appliance.errors import Code
from appliance.executor import Executor
from appliance.messages import Request
from appliance.plan import Plan
from appliance.task import Task
from appliance.tenancy import Tenancy

TICK_S = 0.5
"""How often what is done now and then is done, as in the live appliance."""

MOST_REMEMBERED = 100_000
"""How many answers are read once and remembered: frames of a simulation come again and again."""

Answers = NDArray[np.float32]
"""What a network would answer to one frame: logits, shape (exits, classes)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedRequest:
    """A request that comes at a moment, and what the network answers to its frame."""

    at_s: float
    tenant: str
    answers: Answers
    name: str = ""
    expires_s: float | None = None


def _nothing(_now_s: float) -> None: ...


class SimulatedBackend:
    """Stages that take their time on the simulated clock, and answer what comes with the frame."""

    name = "simulated"
    enqueues = False

    def __init__(
        self, duration_s: Callable[[int, int], float], pass_s: Callable[[float], None]
    ) -> None:
        self._duration_s = duration_s
        self._pass_s = pass_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def feed(self, tensor: Answers) -> Answers:
        return tensor

    def run(self, stage: int, batch: Sequence[Answers]) -> tuple[Answers, Sequence[Answers]]:
        self._pass_s(self._duration_s(stage, len(batch)))
        if len(batch) == 1:
            return batch[0][stage : stage + 1], batch
        return np.stack([answers[stage] for answers in batch]), batch

    def run_through(
        self, first: int, last: int, batch: Sequence[Answers]
    ) -> tuple[Answers, Sequence[Answers]]:
        return run_one_by_one(self, first, last, batch)


class Memory:
    """Reads answers, each of them once. A pure function's results, kept."""

    def __init__(self) -> None:
        self._read: dict[tuple[bytes, float], Answer | None] = {}

    def read(self, logits: NDArray[np.float32], temperature: float) -> Answer | None:
        """What `read_answer` makes of them."""
        key = (logits.tobytes(), temperature)
        if key not in self._read:
            if len(self._read) >= MOST_REMEMBERED:
                self._read.clear()
            self._read[key] = read_answer(logits, temperature)
        return self._read[key]


class Simulation:
    """Runs requests through the same dispatcher, executor and adaptation as the live appliance.

    `finished` and `rejected` are called with what becomes of each task, `changed` with every
    change of a tenant's mode and its time, `between_stages` with the time before anything is
    decided: what a meter saw meanwhile is told to `tenancy` there.
    """

    def __init__(
        self,
        *,
        finished: Callable[[Task], None],
        rejected: Callable[[Task, Code, str], None],
        changed: Callable[[ModeChange, float], None] = lambda _change, _now_s: None,
        tenancy: Tenancy | None = None,
        between_stages: Callable[[float], None] = _nothing,
    ) -> None:
        self.now_s = 0.0
        self.tenancy = Tenancy() if tenancy is None else tenancy
        self._executor = Executor(self._clock, self.tenancy, Memory().read)
        self._rejected = rejected
        self._between_stages = between_stages
        self._changed = changed
        self._dispatcher = Dispatcher(
            executor=self._executor,
            clock=self._clock,
            finished=finished,
            rejected=rejected,
            unaffordable=self._unaffordable,
            failed=lambda _engine, _error: None,
        )
        self._tick_due_s = TICK_S

    def add(self, engine: Engine, duration_s: Callable[[int, int], float]) -> None:
        """Takes an engine into service; `duration_s` gives a run's time by stage and batch size."""
        self._executor.add(engine, SimulatedBackend(duration_s, self._pass))

    def put_in_force(self, plans: Mapping[str, Plan]) -> None:
        """Puts plans in force, by tenant."""
        self._executor.plans = plans

    def run(self, requests: Iterable[SimulatedRequest]) -> None:
        """Plays requests in the order of their times, until the last of them is dealt with.

        Those of tenants without a plan are left out.
        """
        coming = iter(requests)
        following = next(coming, None)
        dispatcher = self._dispatcher
        while following is not None or len(dispatcher.scheduler):
            self._between_stages(self.now_s)
            while following is not None and following.at_s <= self.now_s:
                self._submit(following)
                following = next(coming, None)
            self._tick_if_due()
            batch = dispatcher.decide() if len(dispatcher.scheduler) else []
            if batch:
                dispatcher.take(batch, dispatcher.run(batch))
            else:
                arrives_s = math.inf if following is None else following.at_s
                self._pass_until(min(arrives_s, dispatcher.next_timer_s(), self._tick_due_s))

    def _submit(self, coming: SimulatedRequest) -> None:
        plan = self._executor.plans.get(coming.tenant)
        if plan is None:
            return
        request = Request(
            id=coming.name,
            tenant=coming.tenant,
            stream=None,
            received_s=coming.at_s,
            arrived_at_s=coming.at_s,
            reply_topic="",
            expires_s=coming.expires_s,
        )
        self._dispatcher.submit(Task(request=request, plan=plan, features=coming.answers))

    def _clock(self) -> float:
        return self.now_s

    def _pass(self, seconds: float) -> None:
        self._pass_until(self.now_s + seconds)

    def _pass_until(self, time_s: float) -> None:
        """Lets time go by, and has done on the way what comes at its time."""
        while (timer_s := self._dispatcher.next_timer_s()) <= time_s:
            self.now_s = max(self.now_s, timer_s)
            self._dispatcher.fire()
        self.now_s = max(self.now_s, time_s)

    def _tick_if_due(self) -> None:
        if self.now_s >= self._tick_due_s:
            self._tick_due_s = self.now_s + TICK_S
            self.tenancy.energy.tick(self.now_s)
            queues = self._dispatcher.scheduler.room.queue_lengths()
            for change in self.tenancy.adapt(self._executor.plans, queues, self.now_s):
                self._changed(change, self.now_s)
            self.tenancy.steer(self._executor.plans, queues, self.now_s)

    def _unaffordable(self, task: Task, balance: Balance) -> None:
        self._rejected(task, Code.TOO_MANY, f"the budget is spent for {balance.ends_in_s:.0f} s")
