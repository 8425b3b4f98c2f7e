"""Engines, plans and tasks in memory, for tests that need no files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.conditions import ExitMetrics
from appliance.engine import Engine, InputSpec, Kind, Latency, Stage
from appliance.messages import Request
from appliance.plan import Plan, compile_plan
from appliance.policy import parse_policy
from appliance.task import Task

RESNET50_ACCURACIES = (0.4354, 0.6803, 0.7675, 0.7657)
RESNET50_ENERGIES_J = (0.04599, 0.05332, 0.07744, 0.0668)


def an_engine(
    *,
    name: str = "resnet50",
    accuracies: Sequence[float | None] = RESNET50_ACCURACIES,
    energies_j: Sequence[float | None] = RESNET50_ENERGIES_J,
    stage_time_s: float = 0.010,
) -> Engine:
    """By default Dělen's own ResNet-50, whose exit 3 is dominated by exit 2."""
    return Engine(
        name=name,
        kind=Kind.IMAGE,
        input=InputSpec(shape=(3, 8, 8)),
        labels=(),
        stages=tuple(
            Stage(
                accuracy=accuracy,
                flops=1e9,
                energy_j=energy_j,
                latency={1: Latency(p50_s=stage_time_s, p95_s=stage_time_s)},
            )
            for accuracy, energy_j in zip(accuracies, energies_j, strict=True)
        ),
        folder=Path(name),
    )


def a_plan(text: str = "", *, engine: Engine | None = None, tenant: str = "gate") -> Plan:
    engine = engine or an_engine()
    source = f"tenant: {tenant}\nversion: 1\nengine: {engine.name}\n{text}"
    return compile_plan(parse_policy(source), engine)


def metrics_at(exit_: int, *, engine: Engine | None = None, **known: Any) -> ExitMetrics:
    """What is known after an exit, each stage having taken 10 ms."""
    engine = engine or an_engine()
    metrics = ExitMetrics(
        response_time=0.010 * (exit_ + 1),
        confidence=0.6,
        accuracy=engine.stages[exit_].accuracy,
        energy=engine.energy_to_j[exit_],
        computation=engine.flops_to[exit_],
        exit=exit_,
        entropy=0.5,
        margin=0.3,
        expected_accuracy=0.6,
        next_response_time=0.010 * (exit_ + 2),
        next_energy=None if exit_ == engine.last_exit else engine.energy_to_j[exit_ + 1],
    )
    return metrics._replace(**known)


def a_request(
    name: str = "r", *, tenant: str = "gate", received_s: float = 0.0, **fields: Any
) -> Request:
    return Request(
        id=name,
        tenant=tenant,
        stream=None,
        received_s=received_s,
        arrived_at_s=received_s,
        reply_topic="t",
        **fields,
    )


def a_task(name: str = "r", *, plan: Plan | None = None, received_s: float = 0.0) -> Task:
    plan = plan or a_plan()
    request = a_request(name, tenant=plan.policy.tenant, received_s=received_s)
    return Task(request=request, plan=plan, features=None)
