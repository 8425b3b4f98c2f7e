"""What appliances publish, for tests of whoever reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from appliance.fleet.reports import Received
from appliance.topics import Topics

PREFIX = "delen/v1"
TOPICS = Topics(PREFIX)


def _json(topic: str, value: Mapping[str, Any], *, retained: bool = False) -> Received:
    return Received(topic=topic, payload=json.dumps(value).encode(), retained=retained)


def status(appliance: str, word: str) -> Received:
    topic = TOPICS.appliance_status(appliance)
    return Received(topic=topic, payload=word.encode(), retained=True)


def appliance_telemetry(
    appliance: str,
    *,
    power_w: float | None = 5.0,
    tenants: Mapping[str, int] | None = None,
    window_s: float = 1.0,
    rails_w: Mapping[str, float] | None = None,
    temperatures_c: Mapping[str, float] | None = None,
    **fields: Any,
) -> Received:
    reading = {
        "appliance": appliance,
        "window_s": window_s,
        "uptime_s": 60.0,
        "engines": ["digits"],
        "backends": {"digits": "onnx"},
        "out_of_service": {},
        "meter": "tegrastats",
        "power": {
            "meter": "tegrastats",
            "failure": None,
            "power_w": power_w,
            "total_of": ["VDD_IN"],
            "idle_w": 3.0,
            "rails_w": rails_w or {"VDD_IN": power_w or 0.0},
            "temperatures_c": temperatures_c or {"cpu": 45.0},
        },
        "energy": dict.fromkeys(
            ("tenants_j", "idle_j", "unattributed_j", "integrated_j", "modelled_j"), 1.0
        ),
        "device_budget": None,
        "command_failure": None,
        "queue_length": 0,
        "unlogged": 0,
        "unsent": 0,
        "frame_bytes": 0,
        "strangers": 0,
        "log_failure": None,
        "database_mishap": None,
        "tenants": tenants or {},
    }
    return _json(TOPICS.appliance_telemetry(appliance), {**reading, **fields})


def tenant_telemetry(
    tenant: str,
    appliance: str,
    *,
    exits: Mapping[str, int] | None = None,
    window_s: float = 1.0,
    p99_ms: float = 20.0,
    **fields: Any,
) -> Received:
    counts = {"0": 8, "1": 2} if exits is None else exits
    answered = sum(counts.values())
    reading = {
        "tenant": tenant,
        "appliance": appliance,
        "window_s": window_s,
        "answered": answered,
        "rejected": 0,
        "rate_per_s": answered / window_s,
        "exits": counts,
        "rejections": {},
        "response_time_ms": {"p50": p99_ms / 2, "p95": p99_ms * 0.9, "p99": p99_ms},
        "energy_mj": 2.0 * answered,
        "energy_source": "tegrastats",
        "spent_mj": 2.0 * answered,
        "charged_j": 0.1,
        "last_label": "7",
        "budget": None,
        "mode": None,
        "device_budget": None,
        "agreement": None,
        "effort": None,
        "queue_length": 0,
        "muted": 0,
        "policy_version": 1,
        "bounds": {"response_time_ms": 40.0, "energy_mj": None, "accuracy": None},
        "bound_kept": 1.0,
        "confidence": 0.9,
    }
    return _json(TOPICS.telemetry(tenant, appliance), {**reading, **fields})


def policy_state(
    tenant: str,
    appliance: str,
    *,
    version: int | None = 1,
    rejection: tuple[int, str] | None = None,
    retained: bool = False,
    **fields: Any,
) -> Received:
    state: dict[str, Any] = {
        "tenant": tenant,
        "appliance": appliance,
        "version": version,
        "engine": "digits",
        "accepted_at": "2026-03-01T08:30:00.125+00:00",
        "feasibility": [],
        "conflicts": [],
        "out_of_service": None,
        "last_rejection": rejection
        and {
            "code": rejection[0],
            "reason": rejection[1],
            "detail": "a sentence",
            "rejected_at": "2026-03-01T08:30:00.125+00:00",
        },
    }
    return _json(TOPICS.policy_state(tenant, appliance), {**state, **fields}, retained=retained)


def result(tenant: str, appliance: str, *, arrived_s: float = 1000.0, **fields: Any) -> Received:
    reply: dict[str, Any] = {
        "status": "ok",
        "id": "5f0c",
        "tenant": tenant,
        "stream": None,
        "engine": "digits",
        "exit": 1,
        "label": "7",
        "index": 7,
        "confidence": 0.97,
        "top": [],
        "response_time_ms": 6.1,
        "queue_time_ms": 1.2,
        "energy_mj": 1.9,
        "energy_source": "modelled",
        "accuracy": 0.93,
        "stopped_by": "condition",
        "unmet": [],
        "policy_version": 3,
        "mode": None,
        "appliance": appliance,
        "arrived_at": datetime.fromtimestamp(arrived_s, timezone.utc).isoformat(),
    }
    return _json(TOPICS.result(tenant), {**reply, **fields})
