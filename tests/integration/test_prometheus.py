"""Debian's Prometheus and promtool with what the appliance exports and what `deploy/` has."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.broker import Mosquitto, free_port
from appliance.serving import serve
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import Watch, client_of, push, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.integration.prometheus import prometheus
from tests.scrapes import a_snapshot, get, served
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
REQUESTS = 7


@contextmanager
def appliance(settings: Settings, client: Session) -> Iterator[None]:
    """`delen serve` in a thread, online."""
    status = Watch(client, client.topics.appliance_status(settings.appliance_id))
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, stop))
    thread.start()
    try:
        while status.next()[1] != b"online":
            pass
        yield
    finally:
        stop.set()
        thread.join()


def promtool(*arguments: str, told: str = "") -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=told, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_prometheus_scrapes_an_appliance(broker: Mosquitto, tmp_path: Path) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    token = tmp_path / "token"
    token.write_text("hush\n")
    port = free_port()
    settings = settings_for(broker, tmp_path, metrics_port=port, metrics_token_file=token)

    with client_of(settings) as client, appliance(settings, client):
        push(client, POLICY)
        for _ in range(REQUESTS):
            client.infer("gate", npy())
        with prometheus(tmp_path, scraped=port, token=token) as server:
            wait_until(server.is_ready)
            wait_until(lambda: server.value("delen_requests_total") == REQUESTS)

            assert server.value("up") == 1
            assert server.value("delen_healthy") == 1
            assert server.value('delen_response_seconds_count{tenant="gate"}') == REQUESTS
            assert server.value(
                'histogram_quantile(0.5, delen_response_seconds_bucket{tenant="gate"})'
            )
            assert server.query('ALERTS{alertstate="firing"}') == []
            for expression in dashboard_expressions():
                server.query(expression)

            client.publish(client.topics.policy_set("gate"), b"")
            wait_until(lambda: server.query("delen_policy_version") == [])


def dashboard_expressions() -> list[str]:
    document: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    targets = [target for panel in document["panels"] for target in panel.get("targets", [])]
    annotations = document["annotations"]["list"]
    return [
        one["expr"]
        .replace("$__rate_interval", "1m")
        .replace("$instance", ".*")
        .replace("$tenant", ".*")
        for one in (*targets, *annotations)
    ]


def test_the_metrics_keep_the_conventions() -> None:
    with served(a_snapshot()) as port:
        told = get(port).body

    assert promtool("check", "metrics", told=told) == ""


def test_the_alerts_and_the_configuration_are_valid() -> None:
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    promtool("check", "rules", str(DEPLOY / "prometheus" / "alerts.yml"))


def test_the_alerts_fire_when_they_are_to_and_only_then() -> None:
    promtool("test", "rules", str(DEPLOY / "prometheus" / "alerts_test.yml"))
