"""Scrapes of an appliance's metrics, over real HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from appliance.agreement import AgreementEstimate
from appliance.broker import free_port
from appliance.budgets import Balance
from appliance.energy import IDLE, UNATTRIBUTED, Spent
from appliance.health import Health
from appliance.metrics.counters import OTHER, Tally
from appliance.metrics.server import MetricsServer
from appliance.metrics.survey import ExecutorState, Snapshot, TenantState
from appliance.power.protocol import Reading
from appliance.power.sampler import MeterStatus
from tests.waiting import PATIENCE_S

WELL = Health(well=True, sentence="online", at_s=0.0)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str
    content_type: str


def get(port: int, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> Answer:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - an address of this machine
            return Answer(answer.status, answer.read().decode(), answer.headers["Content-Type"])
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(), error.headers["Content-Type"])


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Each sample's value, by its name and the values of its labels in the labels' order."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def served(snapshot: Snapshot, *, health: Health = WELL, token: str | None = None) -> Iterator[int]:
    """The port at which a snapshot is served."""
    with MetricsServer(
        host="127.0.0.1",
        port=free_port(),
        token=token,
        survey=lambda: snapshot,
        health=lambda: health,
    ) as server:
        yield server.port


def a_snapshot(*, tenant: str = "gate") -> Snapshot:
    """One in which nothing is missing, so that each metric has a sample."""
    tally, other = Tally(spent=Spent(measured_j=5.0, modelled_j=1.0)), Tally()
    tally.requests.update({("digits", "ok"): 8, ("digits", "rejected"): 2})
    tally.exits.update({0: 5, 3: 3})
    tally.rejections.update({429: 2})
    tally.muted = 1
    tally.unmet.update(("response_time",))
    tally.response_times[3] = 8
    tally.response_times_s = 0.06
    other.requests.update({("none", "rejected"): 1})
    other.rejections.update({404: 1})
    budget = Balance(energy_j=10.0, per_s=60.0, left_j=2.5, ends_in_s=30.0)
    agreement = AgreementEstimate(
        agreement=0.99, low=0.98, high=1.0, samples=200, thresholds=None, chosen=0.1, alarms=1
    )
    state = TenantState(policy_version=3, bound_s=0.04, budget=budget, agreement=agreement)
    reading = Reading(
        time_s=0.0,
        rails_w={"VDD_IN": 7.0, "VDD_CPU": 2.0},
        total_of=("VDD_IN",),
        temperatures_c={"cpu": 51.5},
    )
    return Snapshot(
        appliance="box",
        age_s=0.01,
        connected=True,
        open_deliveries=4,
        log_failed=False,
        database_damaged=False,
        unlogged=6,
        unsent=4,
        frame_bytes=38_400,
        backends={"digits": "onnx"},
        out_of_service=frozenset({"faces"}),
        meter=MeterStatus(name="tegrastats", failure=None, reading=reading),
        executor=ExecutorState(
            at_s=0.0,
            queues={tenant: 2, "stranger": 1},
            spent={
                tenant: Spent(measured_j=5.0, modelled_j=1.0),
                IDLE: Spent(measured_j=20.0),
                UNATTRIBUTED: Spent(measured_j=0.5),
            },
            idle_w=4.0,
            device_budget=budget,
            tenants={tenant: state},
        ),
        tallies={tenant: tally, OTHER: other},
    )
