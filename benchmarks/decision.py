"""What a decision of the scheduler takes with many tenants and many tasks queued."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import count

from appliance.engine import Engine, Latency
from appliance.messages import Request
from appliance.plan import Plan
from appliance.scheduler import Scheduler
from appliance.stage_times import StageTimes
from appliance.task import Task
from benchmarks.loads import bounded_plan, resnet50
from benchmarks.report import Finding, report, tell

TENANTS, TASKS = 1_000, 10_000
SIZES = (100, 1_000, 10_000, 100_000)
STAGE_S = 1e-4
DECISIONS, ROUNDS = 2_000, 3
GOAL_US = 50.0


def measure() -> Finding:
    by_size_us = {}
    for size in SIZES:
        tell(f"decision: {size} tasks queued")
        by_size_us[size] = min(_decision_us(size) for _ in range(ROUNDS))
    figure = by_size_us[TASKS]
    smallest, largest = SIZES[0], SIZES[-1]
    grown = by_size_us[largest] / by_size_us[smallest]
    return Finding(
        name="decision",
        figure=round(figure, 2),
        unit=f"µs for a decision with {TENANTS} tenants and {TASKS} tasks",
        goal=f"< {GOAL_US:g}, and growing no faster than the logarithm",
        met=figure < GOAL_US and grown <= math.log(largest) / math.log(smallest),
        measured={
            "decision_us": {str(size): round(us, 2) for size, us in by_size_us.items()},
            "grown_by": round(grown, 2),
            "logarithm_grown_by": round(math.log(largest) / math.log(smallest), 2),
            "a_decision_is": "half of taking a task in and choosing the next stage, in CPU time",
        },
    )


def _decision_us(size: int) -> float:
    """The mean CPU time of taking a task in and of choosing the next stage, half and half."""
    engine = quick_engine()
    times = StageTimes(engine)
    scheduler = Scheduler(
        times=lambda _engine: times,
        answer=lambda _task, _why: None,
        reject=lambda _task, _code, _detail: None,
    )
    tenants = min(TENANTS, size)
    plans = [_plan(engine, number, tenants) for number in range(tenants)]
    names = count()
    for number in range(size):
        scheduler.submit(_task(plans[number % tenants], next(names)), 0.0)
    spent_s = 0.0
    for number in range(DECISIONS):
        now_s = number * 1e-4
        task = _task(plans[number % tenants], next(names), now_s)
        started_s = time.thread_time()
        scheduler.submit(task, now_s)
        scheduler.next(now_s)
        spent_s += time.thread_time() - started_s
    return 1e6 * spent_s / DECISIONS / 2


def quick_engine() -> Engine:
    """Stages so short that all tasks can be admitted and are urgent, as is the hardest case."""
    engine = resnet50()
    latency = {1: Latency(p50_s=STAGE_S, p95_s=STAGE_S)}
    return replace(engine, stages=tuple(replace(stage, latency=latency) for stage in engine.stages))


def _plan(engine: Engine, number: int, tenants: int) -> Plan:
    bound_s = 12.0 + 12.0 * number / tenants
    return bounded_plan(engine, f"t{number}", bound_s, extra="queue: {limit: 100000}")


def _task(plan: Plan, number: int, now_s: float = 0.0) -> Task:
    request = Request(
        id=str(number),
        tenant=plan.policy.tenant,
        stream=None,
        received_s=now_s,
        arrived_at_s=now_s,
        reply_topic="",
    )
    return Task(request=request, plan=plan, features=None)


if __name__ == "__main__":
    report(measure())
