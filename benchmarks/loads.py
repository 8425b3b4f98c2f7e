"""Loads on a four-exit ResNet-50, in simulated time: ours and Dělen's discipline side by side."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from appliance.engine import Engine, InputSpec, Kind, Latency, Stage
from appliance.errors import Code
from appliance.plan import Plan, compile_plan
from appliance.policy import parse_policy
from appliance.simulation import Answers, SimulatedRequest, Simulation
from appliance.task import Task

STAGES_S = (0.0109, 0.0143, 0.0208, 0.0143)
ACCURACIES = (0.45, 0.68, 0.75, 0.77)
NOISE = 0.08
"""Of a stage's time, log-normal."""

OUTLIERS, OUTLIER = 0.01, 1.6
BOUNDS_S = (0.060, 0.080, 0.100, 0.150, 0.200, 0.300, 0.400, 0.500)
"""Of the eight tenants."""

StageClock = Callable[[int], float]
"""How long the next run of a stage takes, in seconds."""


def resnet50() -> Engine:
    """Dělen's ResNet-50 as a profile alone, with stage times of a Jetson."""
    return Engine(
        name="resnet50",
        kind=Kind.TENSOR,
        input=InputSpec(shape=(3, 224, 224)),
        labels=(),
        stages=tuple(
            Stage(
                accuracy=accuracy,
                energy_j=4.0 * time_s,
                latency={1: Latency(p50_s=time_s, p95_s=time_s * 1.14)},
            )
            for accuracy, time_s in zip(ACCURACIES, STAGES_S, strict=True)
        ),
        folder=Path("resnet50"),
    )


def answers_of(accuracies: Sequence[float]) -> Answers:
    """Answers whose confidence at each exit is its accuracy: no frame is known to be easy."""
    return np.array([[np.log(a / (1.0 - a)), 0.0] for a in accuracies], np.float32)


def noisy_stages(seed: int, stages_s: Sequence[float] = STAGES_S) -> StageClock:
    """Stage times with log-normal noise, and now and then a slow run."""
    chance = random.Random(seed)

    def duration_s(stage: int) -> float:
        slow = OUTLIER if chance.random() < OUTLIERS else 1.0
        return stages_s[stage] * chance.lognormvariate(0.0, NOISE) * slow

    return duration_s


def poisson(
    rates_hz: Mapping[str, float], seconds: float, seed: int
) -> Iterator[tuple[float, str]]:
    """Moments of requests and their tenants, in order; each tenant's own whatever the others."""

    def arrivals(tenant: str, rate_hz: float) -> Iterator[tuple[float, str]]:
        chance, time_s = random.Random(f"{seed} {tenant}"), 0.0
        while (time_s := time_s + chance.expovariate(rate_hz)) < seconds:
            yield time_s, tenant

    yield from heapq.merge(*(arrivals(tenant, rate_hz) for tenant, rate_hz in rates_hz.items()))


@dataclass(kw_only=True)
class Outcome:
    """What became of the requests of one tenant."""

    bound_s: float
    requests: int = 0
    rejected: int = 0
    exits: list[int] = field(default_factory=list)
    response_times_s: list[float] = field(default_factory=list)

    @property
    def in_bound(self) -> int:
        return sum(time_s <= self.bound_s + 1e-9 for time_s in self.response_times_s)

    def accuracy(self, accuracies: Sequence[float] = ACCURACIES) -> float:
        """The sum of the answers' accuracies, where a late answer counts for nothing."""
        answers = zip(self.exits, self.response_times_s, strict=True)
        return sum(accuracies[e] for e, time_s in answers if time_s <= self.bound_s + 1e-9)

    def percentile_ms(self, percent: float) -> float:
        times_s = self.response_times_s
        return 1e3 * float(np.percentile(times_s, percent)) if times_s else 0.0


@dataclass(frozen=True, kw_only=True)
class Totals:
    """All tenants' together, as fractions of all requests."""

    in_bound: float
    rejected: float
    accuracy: float

    @classmethod
    def of(
        cls, outcomes: Mapping[str, Outcome], accuracies: Sequence[float] = ACCURACIES
    ) -> Totals:
        requests = sum(outcome.requests for outcome in outcomes.values())
        return cls(
            in_bound=sum(outcome.in_bound for outcome in outcomes.values()) / requests,
            rejected=sum(outcome.rejected for outcome in outcomes.values()) / requests,
            accuracy=sum(outcome.accuracy(accuracies) for outcome in outcomes.values()) / requests,
        )


def bounded_plan(engine: Engine, tenant: str, bound_s: float, extra: str = "") -> Plan:
    """A policy that asks for the best answer within a bound on response time."""
    text = f"tenant: {tenant}\nversion: 1\nengine: {engine.name}\n{extra}"
    return compile_plan(
        parse_policy(f"{text}\nbounds: {{response_time: {bound_s * 1e3:g}ms}}"), engine
    )


def play_ours(
    bounds_s: Mapping[str, float],
    arrivals: Sequence[tuple[float, str]],
    stage_s: StageClock,
) -> dict[str, Outcome]:
    """The appliance's own scheduler and executor under a simulated clock."""
    engine = resnet50()
    outcomes = {tenant: Outcome(bound_s=bound_s) for tenant, bound_s in bounds_s.items()}

    def finished(task: Task) -> None:
        outcome = outcomes[task.request.tenant]
        if task.metrics is not None:
            outcome.exits.append(task.metrics.exit)
            outcome.response_times_s.append(task.metrics.response_time)

    def rejected(task: Task, _code: Code, _detail: str) -> None:
        outcomes[task.request.tenant].rejected += 1

    simulation = Simulation(finished=finished, rejected=rejected)
    simulation.add(engine, lambda stage, _size: stage_s(stage))
    simulation.put_in_force(
        {tenant: bounded_plan(engine, tenant, bound_s) for tenant, bound_s in bounds_s.items()}
    )
    answers = answers_of(ACCURACIES)
    simulation.run(
        SimulatedRequest(at_s=at_s, tenant=tenant, answers=answers) for at_s, tenant in arrivals
    )
    _count(outcomes, arrivals)
    return outcomes


def play_fifo(
    bounds_s: Mapping[str, float],
    arrivals: Sequence[tuple[float, str]],
    stage_s: StageClock,
    stops: Callable[[int, float, float], bool],
) -> dict[str, Outcome]:
    """Dělen's discipline: one task after the other, each run until its condition says stop.

    `stops` is asked after each exit with the exit, the response time and the bound.
    """
    outcomes = {tenant: Outcome(bound_s=bound_s) for tenant, bound_s in bounds_s.items()}
    now_s = 0.0
    for at_s, tenant in arrivals:
        now_s, outcome = max(now_s, at_s), outcomes[tenant]
        for exit_ in range(len(STAGES_S)):
            now_s += stage_s(exit_)
            if stops(exit_, now_s - at_s, outcome.bound_s):
                break
        outcome.exits.append(exit_)
        outcome.response_times_s.append(now_s - at_s)
    _count(outcomes, arrivals)
    return outcomes


def as_delen(exit_: int, response_time_s: float, bound_s: float) -> bool:
    """Dělen's own condition, `response_time > bound`: it is noticed once it is broken."""
    return exit_ == len(STAGES_S) - 1 or response_time_s > bound_s


def looking_ahead(exit_: int, response_time_s: float, bound_s: float) -> bool:
    """The same with a look ahead: it stops where the next exit would break the bound."""
    last = exit_ == len(STAGES_S) - 1
    return last or response_time_s + 1.25 * STAGES_S[exit_ + 1] > bound_s


def _count(outcomes: Mapping[str, Outcome], arrivals: Sequence[tuple[float, str]]) -> None:
    for _, tenant in arrivals:
        outcomes[tenant].requests += 1


def fluid_limit(
    seconds_each: float,
    stages_s: Sequence[float] = STAGES_S,
    accuracies: Sequence[float] = ACCURACIES,
) -> float:
    """The best mean accuracy that so many seconds a request can buy, if they could be split up.

    The greedy fractional fill: the first stage, then the deeper ones by accuracy per second.
    """
    share = min(1.0, seconds_each / stages_s[0])
    accuracy, left_s = accuracies[0] * share, seconds_each - stages_s[0]
    gains = [
        (accuracies[deeper] - accuracies[deeper - 1], stages_s[deeper])
        for deeper in range(1, len(stages_s))
    ]
    for gain, time_s in sorted(gains, key=lambda pair: -pair[0] / pair[1]):
        share = min(1.0, max(0.0, left_s / time_s))
        accuracy += gain * share
        left_s -= time_s * share
    return accuracy
