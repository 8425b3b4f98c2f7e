"""What is told over HTTP: the metrics, whether all is well, and to whom."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from appliance.broker import Mosquitto
from appliance.health import Health
from appliance.metrics import server
from appliance.metrics.counters import OTHER
from appliance.metrics.families import VERSION, families
from appliance.metrics.server import MetricsServer
from appliance.topics import level_fault
from tests.appliances import client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.scrapes import WELL, a_snapshot, get, samples, served
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _servers_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "POLL_S", 0.01)


def exported() -> dict[str, Metric]:
    """Every family of the appliance's own, by its name in Prometheus' text format."""
    suffixes = {"counter": "_total", "info": "_info"}
    return {
        f"{family.name}{suffixes.get(family.type, '')}": family
        for family in families(a_snapshot(), WELL)
    }


def test_a_scrape_tells_what_the_snapshot_holds() -> None:
    with served(a_snapshot()) as port:
        told = samples(get(port).body)

    assert told["delen_requests_total", "digits", "ok", "gate"] == 8
    assert told["delen_requests_total", "none", "rejected", OTHER] == 1
    assert told["delen_exits_total", "3", "gate"] == 3
    assert told["delen_rejections_total", "429", "gate"] == 2
    assert told["delen_response_seconds_bucket", "0.005", "gate"] == 0
    assert told["delen_response_seconds_bucket", "0.01", "gate"] == 8
    assert told["delen_response_seconds_bucket", "+Inf", "gate"] == 8
    assert told["delen_response_seconds_count", "gate"] == 8
    assert told["delen_energy_joules_total", "measured", "gate"] == 5.0
    assert told["delen_budget_remaining_joules", "gate"] == 2.5
    assert told["delen_queue_length", "gate"] == 2
    assert told["delen_queue_length", OTHER] == 1
    assert told["delen_policy_version", "gate"] == 3
    assert told["delen_power_watts", "VDD_CPU"] == 2.0
    assert told["delen_device_power_watts",] == 7.0
    assert told["delen_temperature_celsius", "cpu"] == 51.5
    assert told["delen_engine_in_service", "digits"] == 1
    assert told["delen_engine_in_service", "faces"] == 0
    assert told["delen_device_energy_joules_total", "idle"] == 20.0
    assert told["delen_build_info", "box", VERSION] == 1
    assert told["process_resident_memory_bytes",] > 0


def test_every_family_has_a_sample_in_the_example_that_the_docs_are_compared_with() -> None:
    assert [name for name, family in exported().items() if not family.samples] == []


def test_openmetrics_is_spoken_too() -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}

    with served(a_snapshot()) as port:
        answer = get(port, headers=accept)

    assert answer.content_type.startswith("application/openmetrics-text")
    assert {"delen_requests", "delen_response_seconds"} <= {
        family.name
        for family in text_string_to_metric_families(answer.body)  # type: ignore[no-untyped-call]
    }


@settings_of_hypothesis(deadline=None)
@given(st.text(min_size=1).filter(lambda name: level_fault(name) is None))
def test_whatever_a_tenant_is_called_its_metrics_can_be_read(tenant: str) -> None:
    registry = CollectorRegistry()
    for family in families(a_snapshot(tenant=tenant), WELL):
        registry.register(_Just(family))

    told = samples(generate_latest(registry).decode())

    assert told["delen_policy_version", tenant] == 3


class _Just:
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        return [self._family]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer hush-č", 200),
        ("bearer hush-č", 200),
        ("Bearer hush", 401),
        ("Bearer", 401),
        ("Basic hush-č", 401),
        ("hush-č", 401),
        (None, 401),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_with_a_token_nothing_is_told_to_whoever_lacks_it(
    header: str | None, status: int, path: str
) -> None:
    as_sent = None if header is None else header.encode().decode("latin-1")
    headers = {} if as_sent is None else {"Authorization": as_sent}

    with served(a_snapshot(), token="hush-č") as port:  # noqa: S106 - the test's own
        answer = get(port, path, headers)

    assert answer.status == status


@pytest.mark.parametrize(
    ("health", "status"),
    [(WELL, 200), (Health(well=False, sentence="the log cannot be written", at_s=0.0), 503)],
)
def test_healthz_says_what_delen_health_says(health: Health, status: int) -> None:
    with served(a_snapshot(), health=health) as port:
        answer = get(port, "/healthz")

    assert (answer.status, answer.body) == (status, f"{health.sentence}\n")


def test_another_path_is_told_what_there_is() -> None:
    with served(a_snapshot()) as port:
        answer = get(port, "/")

    assert (answer.status, answer.body) == (404, "here are /metrics and /healthz\n")


@pytest.mark.parametrize(
    "accept", ["text/plain;version=x", "application/openmetrics-text;version=a.b"]
)
def test_versions_that_cannot_be_read_are_refused(accept: str) -> None:
    with served(a_snapshot()) as port:
        answer = get(port, headers={"Accept": accept})

    assert answer.status == 400


def test_a_port_in_use_is_said_and_nothing_else_fails(caplog: pytest.LogCaptureFixture) -> None:
    with served(a_snapshot()) as port, caplog.at_level(logging.ERROR):
        again = MetricsServer(
            host="127.0.0.1", port=port, token=None, survey=a_snapshot, health=lambda: WELL
        )
        with again:
            answer = get(port, "/healthz")

    assert answer.status == 200
    assert "metrics are not served" in caplog.text
    assert "DELEN_METRICS_PORT" in caplog.text


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET // HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.0\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\n" + b"a: b\r\n" * 200,
        b"x" * 70_000,
        b"POST /metrics HTTP/1.0\r\n\r\n",
    ],
)
def test_garbage_leaves_the_next_scrape_alone(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with served(a_snapshot()) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(garbage)
        answer = get(port)

    assert answer.status == 200
    assert caplog.records == []


def test_connections_that_are_held_open_make_room_and_have_no_threads_of_their_own_left() -> None:
    with served(a_snapshot()) as port, ExitStack() as held:
        for _ in range(2 * server.MOST_CONNECTIONS):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(b"GET /metrics HTTP/1.0\r\nx: ")
        answer = get(port)
        threads = connection_threads()

    assert answer.status == 200
    assert threads <= server.MOST_CONNECTIONS
    assert connection_threads() == 0


def test_a_connection_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LONGEST_CONNECTION_S", 0.05)

    with served(a_snapshot()) as port, socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"GET /metrics HTTP/1.0\r\n")

        assert slow.recv(1) == b""
        wait_until(lambda: connection_threads() == 0)


def connection_threads() -> int:
    return sum(thread.name == "metrics-connection" for thread in threading.enumerate())


def test_an_appliance_tells_of_what_it_did(broker: Mosquitto, tmp_path: Path) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)

    with serving(settings) as service, client_of(settings) as client:
        push(client, POLICY)
        client.infer("gate", npy())
        client.infer("stranger", npy())
        wait_until(lambda: service.open_deliveries() == 0)
        with served(service.survey.take()) as port:
            told = samples(get(port).body)

    assert told["delen_requests_total", "tiny", "ok", "gate"] == 1
    assert told["delen_requests_total", "none", "rejected", OTHER] == 1
    assert told["delen_rejections_total", "404", OTHER] == 1
    assert told["delen_response_seconds_count", "gate"] == 1
    assert told["delen_energy_joules_total", "modelled", "gate"] > 0
    assert told["delen_broker_connected",] == 1
    assert told["delen_meter_failed",] == 0


def test_an_executor_that_hangs_holds_up_no_scrape(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.metrics.survey.PATIENCE_S", 0.01)
    monkeypatch.setattr("appliance.metrics.survey.LEAST_AGE_S", 0.0)
    settings, going_on = settings_for(broker, tmp_path), threading.Event()

    with serving(settings) as service:
        before = service.survey.take()
        service._loop.post(lambda: bool(going_on.wait(20)))  # type: ignore[arg-type]  # noqa: SLF001
        hung = service.survey.take()
        going_on.set()

    assert hung.executor is before.executor


def test_the_table_in_the_docs_is_what_is_exported() -> None:
    rows = re.findall(r"^\| `(delen_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", docs(), re.MULTILINE)

    assert rows == [
        (
            name,
            family.type,
            ", ".join(f"`{label}`" for label in labels_of(family)),
            family.documentation,
        )
        for name, family in exported().items()
    ]


def docs() -> str:
    return (ROOT / "docs" / "metrics.md").read_text()


def labels_of(family: Metric) -> list[str]:
    names = {name: None for sample in family.samples for name in sample.labels}
    return [name for name in names if name != "le"]


def names_in(expression: str) -> set[str]:
    """The metrics of the appliance that a PromQL expression names."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in re.findall(r"\bdelen_[a-z_]+", expression)
    }


def test_the_alerts_name_only_what_is_exported() -> None:
    document = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]

    named = set().union(*(names_in(rule["expr"]) for rule in rules))

    assert named <= exported().keys()
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules)
    assert all(f"| `{rule['alert']}` |" in docs() for rule in rules)


def test_the_dashboard_names_only_what_is_exported() -> None:
    document = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
    expressions = [target["expr"] for target in targets_of(document)]

    named = set().union(*map(names_in, expressions))

    assert len(expressions) >= len(document["panels"]) - 1
    assert named <= exported().keys()
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def targets_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in document["panels"] for target in panel.get("targets", [])]


def test_without_a_port_nothing_listens() -> None:
    silent = MetricsServer(
        host="127.0.0.1", port=None, token=None, survey=a_snapshot, health=lambda: WELL
    )

    with silent:
        assert silent.port == 0
