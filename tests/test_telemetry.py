"""Telemetry: what the last few seconds came to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from appliance.broker import Mosquitto
from appliance.budgets import Balance
from appliance.messages import Rejection, Result
from appliance.policy import Bounds, Policy
from appliance.windows import TenantAccount, Windows
from tests.appliances import Watch, client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.waiting import wait_until

RESULT = Result(
    id="1",
    tenant="gate",
    stream=None,
    engine="tiny",
    exit=1,
    label="x",
    index=0,
    confidence=1.0,
    top=(),
    response_time_ms=10.0,
    queue_time_ms=0.0,
    energy_mj=2.5,
    energy_source="modelled",
    accuracy=0.5,
    stopped_by="condition",
    unmet=(),
    policy_version=1,
    mode=None,
    appliance="box",
    arrived_at="",
)
REJECTION = Rejection(
    id="2",
    tenant="gate",
    stream=None,
    code=429,
    reason="",
    detail="",
    appliance="box",
    arrived_at="",
)


BALANCE = Balance(energy_j=10.0, per_s=60.0, left_j=2.5, ends_in_s=30.0)
POLICY_IN_FORCE = Policy(
    tenant="gate", version=4, engine="tiny", bounds=Bounds(response_time="40ms", energy="3mJ")
)
ACCOUNT = TenantAccount(
    spent_j=0.3,
    charged_j=1.5,
    own=BALANCE,
    of_device=None,
    mode="saver",
    policy=POLICY_IN_FORCE,
)


def test_a_window_says_which_bounds_were_in_force_and_how_many_answers_kept_them() -> None:
    windows = Windows()
    windows.take_in(RESULT, {"gate"})
    windows.take_in(dataclasses.replace(RESULT, unmet=("energy",), confidence=0.5), {"gate"})

    reading = windows.take_out()["gate"].telemetry(
        "gate", appliance="box", window_s=1.0, account=ACCOUNT, queue_length=0
    )

    assert reading.policy_version == 4
    assert (reading.bounds.response_time_ms, reading.bounds.energy_mj) == (40.0, 3.0)
    assert reading.bound_kept == 0.5
    assert reading.confidence == 0.75


def test_a_window_counts_exits_rejections_energy_and_percentiles() -> None:
    windows = Windows()
    for number in range(100):
        windows.take_in(dataclasses.replace(RESULT, response_time_ms=float(number)), {"gate"})
    windows.take_in(REJECTION, {"gate"})

    told = windows.take_out()["gate"].telemetry(
        "gate", appliance="box", window_s=10.0, account=ACCOUNT, queue_length=3
    )

    assert (told.answered, told.rejected, told.rate_per_s) == (100, 1, 10.1)
    assert told.exits == {"1": 100}
    assert told.rejections == {"429": 1}
    assert told.response_time_ms == {"p50": 49.5, "p95": 94.05, "p99": 98.01}
    assert (told.energy_mj, told.spent_mj, told.charged_j) == (250.0, 300.0, 1.5)
    assert told.last_label == "x"
    assert told.budget is not None
    assert (told.budget.left_j, told.budget.remaining, told.budget.ends_in_s) == (2.5, 0.25, 30.0)
    assert told.device_budget is None
    assert windows.take_out() == {}


def test_telemetry_is_published_for_the_tenants_that_have_a_policy(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)

    with serving(settings) as service, client_of(settings) as client:
        push(client, POLICY)
        client.infer("gate", npy())
        client.infer("stranger", npy())
        tenants = Watch(client, client.topics.telemetry("+", settings.appliance_id))
        own = Watch(client, client.topics.appliance_telemetry(settings.appliance_id))
        wait_until(lambda: service.open_deliveries() == 0)
        service.tell()
        topic, gate = tenants.next()
        _, box = own.next()

    assert topic == client.topics.telemetry("gate", settings.appliance_id)
    assert json.loads(gate)["exits"] == {"0": 1}
    assert json.loads(box)["tenants"] == {"gate": 1}
    assert json.loads(box)["engines"] == ["tiny"]
    assert json.loads(box)["backends"] == {"tiny": "onnx"}
    assert tenants.is_silent()
