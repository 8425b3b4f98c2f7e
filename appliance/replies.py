"""Results and rejections made from what happened to a request."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np

from appliance.errors import Code
from appliance.messages import Candidate, Rejection, Request, Result
from appliance.task import Task

TOP = 5
"""How many of the most likely classes a result lists."""


def result_of(task: Task, appliance: str) -> Result:
    """The result of a task that stopped; its last answered exit is the answer."""
    metrics, probabilities = task.metrics, task.probabilities
    if metrics is None or probabilities is None or task.stopped_by is None:
        raise ValueError(f"the task {task.request.id} has not stopped at an exit")
    engine = task.plan.engine
    order = np.argsort(probabilities)[: -TOP - 1 : -1]
    top = tuple(
        Candidate(label=engine.label(index), index=index, confidence=round(confidence, 6))
        for index, confidence in zip(order.tolist(), probabilities[order].tolist(), strict=True)
    )
    return Result(
        id=task.request.id,
        tenant=task.request.tenant,
        stream=task.request.stream,
        engine=engine.name,
        exit=metrics.exit,
        label=top[0].label,
        index=top[0].index,
        confidence=top[0].confidence,
        top=top,
        response_time_ms=round(metrics.response_time * 1e3, 3),
        queue_time_ms=round(task.queue_time_s * 1e3, 3),
        energy_mj=None if metrics.energy is None else round(metrics.energy * 1e3, 6),
        energy_source=task.energy_source.value,
        accuracy=metrics.accuracy,
        stopped_by=task.stopped_by.value,
        unmet=(*task.plan.unmet(metrics), *(("agreement",) if task.agrees is False else ())),
        policy_version=task.plan.policy.version,
        mode=task.plan.mode,
        appliance=appliance,
        arrived_at=iso(task.request.arrived_at_s),
    )


def rejection_of(  # noqa: PLR0913 - a rejection has this many parts
    request: Request,
    *,
    appliance: str,
    code: Code,
    detail: str,
    policy_version: int | None = None,
    retry_at: str | None = None,
) -> Rejection:
    """The rejection of a request that gets no answer."""
    return Rejection(
        id=request.id,
        tenant=request.tenant,
        stream=request.stream,
        code=int(code),
        reason=code.reason,
        detail=detail,
        appliance=appliance,
        arrived_at=iso(request.arrived_at_s),
        policy_version=policy_version,
        retry_at=retry_at,
    )


def iso(at_s: float) -> str:
    """A moment in seconds since the epoch, as messages say it."""
    return datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="milliseconds")
