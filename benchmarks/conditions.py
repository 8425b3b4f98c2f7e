"""What asking a policy's conditions after an exit costs."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from pathlib import Path

from appliance.conditions import ExitMetrics
from appliance.engine import Engine, InputSpec, Kind, Latency, Stage
from appliance.plan import compile_plan
from appliance.policy import parse_policy
from benchmarks.report import Finding, report, tell

GOAL_US = 2.0
CALLS, ROUNDS = 20_000, 15

POLICY = """
tenant: gate
version: 1
engine: net
bounds: {response_time: 40ms, energy: 1J, accuracy: 50%}
exit_when: {any: ["confidence >= 0.9", {all: ["exit >= 1", {not: "response_time > 20ms"}]}]}
"""


def measure() -> Finding:
    engine = _engine()
    plan = compile_plan(parse_policy(POLICY), engine)
    metrics = ExitMetrics(0.025, 0.8, 0.7, 0.1, 2e9, 1, 0.5, 0.6, 0.75, 0.04, 0.2)
    predicate = plan.predicates[1]
    if predicate is None:
        raise ValueError("the policy above has a condition for every exit")
    times_s, energies_j = [0.01] * 4, [0.1] * 4
    tell("conditions: asking three nested comparisons")
    asked = _median_us(lambda: predicate(metrics))
    decided = _median_us(
        lambda: plan.decide(
            metrics,
            stage_times_s=times_s,
            stage_energies_j=energies_j,
            response_time_bound_s=0.04,
        )
    )
    nothing = _median_us(lambda: None)
    return Finding(
        name="conditions",
        figure=round(asked - nothing, 3),
        unit="µs",
        goal=f"< {GOAL_US:g}",
        met=asked - nothing < GOAL_US,
        measured={
            "three_nested_comparisons_us": round(asked, 3),
            "whole_decision_with_bounds_us": round(decided, 3),
            "empty_call_us": round(nothing, 3),
            "calls": CALLS * ROUNDS,
        },
    )


def _median_us(call: Callable[[], object]) -> float:
    return statistics.median(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def _engine() -> Engine:
    stage = Stage(
        accuracy=0.7, flops=1e9, energy_j=0.1, latency={1: Latency(p50_s=0.01, p95_s=0.01)}
    )
    return Engine(
        name="net",
        kind=Kind.TENSOR,
        input=InputSpec(shape=(1,)),
        labels=(),
        stages=(stage,) * 4,
        folder=Path("net"),
    )


if __name__ == "__main__":
    report(measure())
