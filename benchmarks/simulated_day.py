"""A day of bursty requests in simulated time, through the appliance's own scheduler and budgets."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance import frames
from appliance.backends.onnx import OnnxBackend
from appliance.budgets import Budgets
from appliance.device_budget import DeviceBudget
from appliance.energy import Energy
from appliance.engine import Engine
from appliance.errors import Code
from appliance.modelling.datasets import Digits, Part
from appliance.plan import Plan, compile_plan
from appliance.policy import parse_policy
from appliance.simulation import SimulatedRequest, Simulation
from appliance.task import Task
from appliance.tenancy import Tenancy

SLOWER = 10.0
"""The simulated board takes so many times the time and energy of the digits engine's profile."""

BEYOND_PROFILE = 1.2
"""What a stage truly draws there, in what its profile says: the meter has to find out."""

DEVICE = "the device"
BASELINE_S = 2.0
"""How long the board idles before the first request."""

IDLE_W, NOISE_W = 4.0, 0.05
SAMPLE_S, SENSOR_S = 0.1, 0.0135
"""How often the sensor is read, and how long a time it averages over: 74 Hz."""

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

PARTS = 20
"""Into how many parts a period is cut to see whether there was work."""

FULL_DAY_SWING = 0.25
"""How far the rate of arrival goes up and down with the hour of the day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """Who sends, how, and what it may spend; rates are means over a day."""

    name: str
    rate_hz: float
    busy_s: float
    """How long a burst takes on average; the pause after it takes twice that."""
    budget_j: float | None = None
    per_s: float = HOUR_S
    exhausted: str = "degrade"
    weight: float = 1.0

    def document(self, *, pace: bool) -> str:
        """The policy; without a condition, requests go as deep as the budgets allow."""
        head = f"tenant: {self.name}\nversion: 1\nengine: digits\nweight: {self.weight!r}\n"
        if self.budget_j is None:
            return head
        return head + (
            f"budget: {{energy: {self.budget_j!r}, per: {self.per_s!r},"
            f" exhausted: {self.exhausted}, pace: {str(pace).lower()}}}\n"
        )

    def arrivals(self) -> Iterator[tuple[float, str]]:
        """Moments at which a request comes: a Poisson process that bursts switch on and off."""
        chance = random.Random(self.name)
        busy_hz = 3.0 * self.rate_hz
        now_s = switch_s = BASELINE_S
        until_s = BASELINE_S + DAY_S
        is_busy = False
        while now_s < until_s:
            is_busy = not is_busy
            mean_s = self.busy_s if is_busy else 2.0 * self.busy_s
            now_s, switch_s = switch_s, switch_s + chance.expovariate(1.0 / mean_s)
            while is_busy:
                swing = FULL_DAY_SWING * math.sin(2.0 * math.pi * now_s / DAY_S)
                now_s += chance.expovariate(busy_hz * (1.0 + swing))
                if now_s >= min(switch_s, until_s):
                    break
                yield now_s, self.name


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the digits engine answered to its test frames, of which the labels are known.

    `logits` has the shape (stages, frames, classes), `labels` (frames,).
    """

    engine: Engine
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


def recorded(engine: Engine) -> Answers:
    """Runs every test frame through every stage of the digits engine."""
    examples = Digits().examples(Part.TEST)
    rows = []
    with OnnxBackend(engine, threads=1) as backend:
        for example in examples:
            features: Any = backend.feed(
                frames.decode(example.read(), None, engine.input, engine.kind)
            )
            answers = []
            for stage in range(len(engine.stages)):
                logits, following = backend.run(stage, [features])
                answers.append(logits[0].copy())
                features = following[0] if following else None
            rows.append(answers)
    labels = [engine.labels.index(example.label) for example in examples]
    return Answers(engine=engine, logits=np.array(rows).transpose(1, 0, 2), labels=np.array(labels))


@dataclass(kw_only=True)
class Board:
    """The power that work draws on a board, as a sensor shows it."""

    _work: deque[tuple[float, float, float]] = field(default_factory=deque)
    """Stages of late: when they began and ended, and their power."""
    _sampled_s: float = 0.0
    _chance: random.Random = field(default_factory=lambda: random.Random("noise"))

    def work(self, started_s: float, duration_s: float, power_w: float) -> None:
        """Draws so much more for a while."""
        self._work.append((started_s, started_s + duration_s, power_w))

    def samples(self, until_s: float) -> Iterator[tuple[float, float]]:
        """What the sensor has shown since it was last asked: times, and powers just before them."""
        while self._sampled_s + SAMPLE_S <= until_s:
            self._sampled_s += SAMPLE_S
            while self._work and self._work[0][1] <= self._sampled_s - SENSOR_S:
                self._work.popleft()
            joules = sum(self._seen_j(*run) for run in self._work)
            noise_w = self._chance.gauss(0.0, NOISE_W)
            yield self._sampled_s, IDLE_W + joules / SENSOR_S + noise_w

    def _seen_j(self, started_s: float, ended_s: float, power_w: float) -> float:
        start_s = max(started_s, self._sampled_s - SENSOR_S)
        return max(0.0, min(ended_s, self._sampled_s) - start_s) * power_w


@dataclass(kw_only=True, slots=True)
class Period:
    """What was spent in one period of a budget, and what there was to spend it on."""

    started_s: float
    per_s: float
    budget_j: float
    spent_j: float | None = None
    """None before it has ended."""
    offered_j: list[float] = field(default_factory=lambda: [0.0] * PARTS)
    """What the requests that came in each part of it would have cost to the last exit."""

    def offer(self, now_s: float, joules: float) -> None:
        part = int(PARTS * (now_s - self.started_s) / self.per_s)
        self.offered_j[min(part, PARTS - 1)] += joules

    @property
    def ends_s(self) -> float:
        return self.started_s + self.per_s

    @property
    def off(self) -> float:
        """How far the spending was from the budget, as a part of that."""
        return (self.spent_j or 0.0) / self.budget_j - 1.0

    @property
    def had_enough_work(self) -> bool:
        """Whether requests still to come could at any time have used what an even pace leaves."""
        return all(
            sum(self.offered_j[part:]) >= self.budget_j * (1.0 - part / PARTS)
            for part in range(PARTS)
        )


def periods_of(budget_j: float, per_s: float) -> list[Period]:
    """A budget's periods in a day."""
    starts_s = (BASELINE_S + number * per_s for number in range(round(DAY_S / per_s)))
    return [Period(started_s=start_s, per_s=per_s, budget_j=budget_j) for start_s in starts_s]


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What became of one tenant's requests in one day."""

    answered: int = 0
    right: int = 0
    rejected: int = 0
    """Shed from a full queue, or turned away for a budget."""
    exits: list[int] = field(default_factory=lambda: [0] * 4)

    @property
    def accuracy(self) -> float:
        return self.right / self.answered if self.answered else 0.0


class Day:
    """Plays tenants' requests on a board; afterwards `outcomes` and `periods` say what became."""

    def __init__(
        self, answers: Answers, tenants: Sequence[Tenant], *, device: DeviceBudget, pace: bool
    ) -> None:
        self.board = Board()
        self.energy = Energy()
        self.outcomes = {tenant.name: Outcome() for tenant in tenants}
        self.periods = {DEVICE: periods_of(device.energy_j, device.per_s)} | {
            tenant.name: periods_of(tenant.budget_j, tenant.per_s)
            for tenant in tenants
            if tenant.budget_j is not None
        }
        self._ends = deque(
            sorted(
                (
                    (period.ends_s, name, period)
                    for name, periods in self.periods.items()
                    for period in periods
                ),
                key=lambda end: end[0],
            )
        )
        self.worst_imbalance = 0.0
        """How far all accounts together were from what the meter saw, as a part of that."""
        self._answers = answers
        self._tenants = tenants
        self._engine = slowed(answers.engine)
        self._plans: Mapping[str, Plan] = {
            tenant.name: compile_plan(parse_policy(tenant.document(pace=pace)), self._engine)
            for tenant in tenants
        }
        weights = {tenant.name: tenant.weight for tenant in tenants}
        self._budgets = Budgets(energy=self.energy, weights=lambda: weights)
        self._budgets.set_device(device)
        self._simulation = Simulation(
            finished=self._finished,
            rejected=self._rejected,
            tenancy=Tenancy(budgets=self._budgets),
            between_stages=self._catch_up,
        )
        self._simulation.add(self._engine, self._work)
        self._simulation.put_in_force(self._plans)

    def play(self) -> None:
        """Runs the whole day."""
        for plan in self._plans.values():
            self._budgets.balance(plan.policy, BASELINE_S)
        self._simulation.run(self._requests())
        self._catch_up(BASELINE_S + DAY_S)

    def _requests(self) -> Iterator[SimulatedRequest]:
        chance = random.Random("frames")
        for at_s, name in heapq.merge(*(tenant.arrivals() for tenant in self._tenants)):
            frame = chance.randrange(len(self._answers.labels))
            self._offer(name, at_s)
            answers = self._answers.logits[:, frame]
            yield SimulatedRequest(at_s=at_s, tenant=name, answers=answers, name=str(frame))

    def _offer(self, name: str, at_s: float) -> None:
        """Notes what a request would cost to the last exit, for its tenant and for the device."""
        cost = self.energy.cost(self._engine.name)
        whole_j = cost.of(self._engine.energy_to_j[-1] or 0.0, begins=True)
        for periods in (self.periods.get(name), self.periods[DEVICE]):
            if periods:
                number = int((at_s - BASELINE_S) // periods[0].per_s)
                periods[number].offer(at_s, whole_j)

    def _work(self, stage: int, size: int) -> float:
        """How long a stage takes for so many tasks, which begin it now."""
        profile = self._engine.stages[stage]
        each_s = profile.latency[1].p50_s
        power_w = (profile.energy_j or 0.0) * BEYOND_PROFILE / each_s
        self.board.work(self._simulation.now_s, each_s * size, power_w)
        return each_s * size

    def _catch_up(self, now_s: float) -> None:
        """Tells of what the meter saw until now, and ends the periods that are over."""
        for time_s, watts in self.board.samples(now_s):
            self.energy.sample(time_s, watts, ("VDD_IN",))
        while self._ends and self._ends[0][0] <= now_s:
            _, name, period = self._ends.popleft()
            before_j = sum(one.spent_j or 0.0 for one in self.periods[name])
            period.spent_j = self._spent_j(name) - before_j
            self._weigh()

    def _spent_j(self, name: str) -> float:
        return self.energy.tenants_j if name == DEVICE else self.energy.spent_j(name)

    def _weigh(self) -> None:
        accounts_j = math.fsum(spent.measured_j for spent in self.energy.spent.values())
        off = abs(accounts_j / self.energy.integrated_j - 1.0)
        self.worst_imbalance = max(self.worst_imbalance, off)

    def _rejected(self, task: Task, _code: Code, _detail: str) -> None:
        self.outcomes[task.request.tenant].rejected += 1

    def _finished(self, task: Task) -> None:
        outcome = self.outcomes[task.request.tenant]
        outcome.answered += 1
        if task.metrics is not None and task.probabilities is not None:
            outcome.exits[task.metrics.exit] += 1
            label = self._answers.labels[int(task.request.id)]
            outcome.right += int(task.probabilities.argmax()) == label


def slowed(engine: Engine) -> Engine:
    """The engine as it would be on a board that is so much slower than its profile's."""
    return replace(
        engine,
        stages=tuple(
            replace(
                stage,
                energy_j=None if stage.energy_j is None else stage.energy_j * SLOWER,
                latency={
                    size: replace(one, p50_s=one.p50_s * SLOWER, p95_s=one.p95_s * SLOWER)
                    for size, one in stage.latency.items()
                },
            )
            for stage in engine.stages
        ),
    )
