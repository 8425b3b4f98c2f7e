"""How soon the dashboard shows a change in a fleet, and what it takes."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress, new_client
from appliance.fleet.history import ROWS
from appliance.fleet.reports import Received
from benchmarks.report import Finding, report, tell
from tests.page.browser import Browser
from tests.reports import appliance_telemetry, policy_state, status, tenant_telemetry

APPLIANCES = 50
TENANTS = 20
EXITS = {"0": 60, "1": 25, "2": 10, "3": 5}
TELEMETRY_S = 10.0
"""As often as appliances tell by default."""

FILL_PER_S = 2500
"""How fast histories are filled, to see what an hour of a fleet takes."""

MEASURED_S = 40.0
CHANGES = 15
GOAL_S, GOAL_MB = 1.0, 200.0
START_S = 30.0


def measure() -> Finding:
    with (
        tempfile.TemporaryDirectory() as name,
        Mosquitto(folder=Path(name) / "broker") as broker,
        _publisher(broker) as publisher,
        _dashboard(broker, Path(name)) as (process, url),
    ):
        at_start_mb = _resident_mb(process)
        _fill(publisher)
        unwatched = _cpu(process, publisher)
        browser = Browser()
        try:
            browser.open(url)
            browser.wait_for_tile("Appliances", f"{APPLIANCES} online")
            tell("dashboard: watched by one browser")
            watched = _cpu(process, publisher)
            delays_s = [_delay_s(browser, publisher, number) for number in range(CHANGES)]
        finally:
            browser.close()
        resident_mb = _resident_mb(process)
    worst_s = max(delays_s)
    return Finding(
        name="dashboard",
        figure=round(worst_s, 3),
        unit=f"s until a change is seen in the browser, at worst, with {APPLIANCES} appliances of"
        f" {TENANTS} tenants",
        goal=f"< {GOAL_S:g}, and < {GOAL_MB:g} MB",
        met=worst_s < GOAL_S and resident_mb < GOAL_MB,
        measured={
            "changes": CHANGES,
            "median_s": round(statistics.median(delays_s), 3),
            "resident_mb": round(resident_mb, 1),
            "resident_at_start_mb": round(at_start_mb, 1),
            "kb_per_appliance": round((resident_mb - at_start_mb) * 1e3 / APPLIANCES, 1),
            "rows_of_history": ROWS,
            "percent_of_a_core_unwatched": round(unwatched * 100, 2),
            "percent_of_a_core_watched": round(watched * 100, 2),
            "percent_of_a_core_per_appliance": round(watched * 100 / APPLIANCES, 4),
            "messages_per_s": round(APPLIANCES * (TENANTS + 1) / TELEMETRY_S, 1),
        },
    )


@contextmanager
def _publisher(broker: Mosquitto) -> Iterator[mqtt.Client]:
    client = new_client(BrokerAddress(host=broker.host, port=broker.port), client_id="script")
    client.connect(broker.host, broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


@contextmanager
def _dashboard(broker: Mosquitto, folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        **os.environ,
        "DELEN_MQTT_HOST": broker.host,
        "DELEN_MQTT_PORT": str(broker.port),
        "DELEN_DASHBOARD_PORT": str(port),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "dashboard"], env=environment, cwd=folder
    )
    try:
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield psutil.Process(child.pid), f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(10)


def _fill(publisher: mqtt.Client) -> None:
    """As many messages of every tenant as its history has rows."""
    for number in range(APPLIANCES):
        _publish(publisher, status(_name(number), "online"))
        for tenant in range(TENANTS):
            _publish(publisher, policy_state(f"tenant-{tenant}", _name(number), retained=True))
    for row in range(ROWS):
        if row % 40 == 0:
            tell(f"dashboard: {row} of {ROWS} rows of history")
        for number in range(APPLIANCES):
            began_s = time.monotonic()
            _tell_of(publisher, number)
            time.sleep(max(0.0, began_s + (TENANTS + 1) / FILL_PER_S - time.monotonic()))


def _tell_of(publisher: mqtt.Client, number: int) -> None:
    name = _name(number)
    counts = {f"tenant-{tenant}": 100 for tenant in range(TENANTS)}
    _publish(publisher, appliance_telemetry(name, tenants=counts, window_s=TELEMETRY_S))
    for tenant in counts:
        _publish(publisher, tenant_telemetry(tenant, name, exits=EXITS, window_s=TELEMETRY_S))


def _cpu(process: psutil.Process, publisher: mqtt.Client) -> float:
    """The fraction of a core that it takes while the fleet tells as it does by default."""
    before, began_s = process.cpu_times(), time.monotonic()
    number = 0
    while (now_s := time.monotonic()) < began_s + MEASURED_S:
        _tell_of(publisher, number % APPLIANCES)
        number += 1
        time.sleep(max(0.0, began_s + number * TELEMETRY_S / APPLIANCES - now_s))
    after, took_s = process.cpu_times(), time.monotonic() - began_s
    return (after.user + after.system - before.user - before.system) / took_s


def _delay_s(browser: Browser, publisher: mqtt.Client, number: int) -> float:
    """How long after an appliance is said to be away, or back, the page shows one less, or more."""
    browser.script(
        "const tile = document.querySelector('[data-tile=\"Appliances\"]'); window.changedAt = 0;"
        "new MutationObserver((_, observer) => {"
        "  window.changedAt = Date.now(); observer.disconnect();"
        "}).observe(tile, {childList: true, characterData: true, subtree: true})"
    )
    for told in range(4):
        _tell_of(publisher, (4 * number + told) % APPLIANCES)
    began_s = time.time()
    _publish(publisher, status(_name(0), "offline" if number % 2 == 0 else "online"))
    while not (changed_ms := browser.script("return window.changedAt")):
        time.sleep(0.02)
    return float(changed_ms) / 1e3 - began_s


def _publish(publisher: mqtt.Client, message: Received) -> None:
    publisher.publish(message.topic, message.payload, retain=message.retained)


def _name(number: int) -> str:
    return f"appliance-{number}"


def _resident_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


if __name__ == "__main__":
    report(measure())
