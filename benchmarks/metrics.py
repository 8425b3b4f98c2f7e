"""What it costs to be watched: a scrape a second, and what Home Assistant and telemetry send."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psutil
from typing_extensions import Self

from appliance.broker import Mosquitto, free_port
from appliance.connection import BrokerAddress, new_client
from benchmarks.report import Finding, report, tell
from benchmarks.rig import NAME, WAIT_S, Requester, running_appliance
from benchmarks.small import small_engine, tensor_frame

CPU_GOAL_PERCENT = 1.0
WIRE_GOAL_KB_PER_S = 5.0

TENANTS = [f"tenant-{number:02}" for number in range(20)]
POLICY = """
tenant: {}
version: 1
engine: net
bounds: {{response_time: 1s}}
"""
SHAPE = (3, 32, 32)

WINDOWS, WINDOW_S = 12, 10.0
"""Every other window is scraped in; telemetry is told once in each."""

WIRE_S = 60.0
PACKET_BYTES = 10
"""What a packet has beside its topic and payload: header, lengths, packet id, properties."""


def measure() -> Finding:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        settings = {"METRICS_PORT": str(port), "HOMEASSISTANT": "true"}
        small_engine(folder / "engines" / "net", SHAPE)
        with (
            Mosquitto(folder=folder / "broker") as broker,
            Listener(broker) as listener,
            running_appliance(
                broker,
                folder,
                engines=folder / "engines",
                policies={tenant: POLICY.format(tenant) for tenant in TENANTS},
                settings=settings,
            ) as child,
        ):
            wire = _wire(broker, listener)
            cpu = _cpu(psutil.Process(child.pid), f"http://127.0.0.1:{port}/metrics")
    percent = cpu["scraped_percent"] - cpu["not_scraped_percent"]
    return Finding(
        name="metrics",
        figure=round(percent, 2),
        unit=f"% of a core for a scrape a second with {len(TENANTS)} tenants",
        goal=f"< {CPU_GOAL_PERCENT:g}, and < {WIRE_GOAL_KB_PER_S:g} kB/s"
        " of telemetry and discovery",
        met=percent < CPU_GOAL_PERCENT and wire["busiest_10_s_kb_per_s"] < WIRE_GOAL_KB_PER_S,
        measured={"cpu": cpu, "wire": wire, "tenants": len(TENANTS)},
    )


def _wire(broker: Mosquitto, listener: Listener) -> dict[str, Any]:
    """Kilobytes a second while every tenant is served and Home Assistant starts in between."""
    listener.heard.clear()
    started_s = time.monotonic()
    with _traffic(broker):
        tell(f"metrics: on the wire, {WIRE_S:g} s")
        time.sleep(WIRE_S / 4)
        listener.say_birth()
        time.sleep(WIRE_S * 3 / 4)
    heard = [(at_s - started_s, topic, size) for at_s, topic, size in listener.heard]
    by_second = [0] * int(WIRE_S)
    for at_s, _, size in heard:
        by_second[min(int(at_s), len(by_second) - 1)] += size
    busiest = max(sum(by_second[start : start + 10]) for start in range(len(by_second) - 9)) / 10
    documents = [size for _, topic, size in heard if topic.startswith("homeassistant/")]
    return {
        "mean_kb_per_s": round(sum(by_second) / WIRE_S / 1e3, 2),
        "busiest_10_s_kb_per_s": round(busiest / 1e3, 2),
        "busiest_second_kb": round(max(by_second) / 1e3, 2),
        "documents": len(documents),
        "largest_document_kb": round(max(documents) / 1e3, 2),
        "telemetry_kb_per_s": round((sum(by_second) - sum(documents)) / WIRE_S / 1e3, 2),
    }


def _cpu(process: psutil.Process, url: str) -> dict[str, Any]:
    """Processor time in per cent of a core, in windows with a scrape a second and without."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    scrapes_s: list[float] = []
    size = 0
    for window in range(WINDOWS):
        tell(f"metrics: window {window + 1} of {WINDOWS}")
        scraped = window % 2 == 0
        before_s, started_s = _cpu_s(process), time.monotonic()
        for second in range(int(WINDOW_S)):
            if scraped:
                asked_s = time.perf_counter()
                size = len(_scrape(url))
                scrapes_s.append(time.perf_counter() - asked_s)
            time.sleep(max(0.0, started_s + second + 1 - time.monotonic()))
        shares[scraped].append((_cpu_s(process) - before_s) / (time.monotonic() - started_s))
    return {
        "scraped_percent": round(100 * statistics.mean(shares[True]), 2),
        "not_scraped_percent": round(100 * statistics.mean(shares[False]), 2),
        "scrape_ms": round(1e3 * statistics.median(scrapes_s), 2),
        "scrape_kb": round(size / 1e3, 1),
        "scrapes": len(scrapes_s),
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _scrape(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # noqa: S310 - ours
        body: bytes = answer.read()
    return body


@contextmanager
def _traffic(broker: Mosquitto) -> Iterator[None]:
    """A request to one tenant after the other, twenty a second."""
    frame, ending = tensor_frame(SHAPE), threading.Event()

    def send() -> None:
        with ExitStack() as asking:
            requesters = [
                asking.enter_context(Requester(broker, f"delen/v1/{tenant}/result/me"))
                for tenant in TENANTS
            ]
            while not ending.is_set():
                for tenant, requester in zip(TENANTS, requesters, strict=True):
                    requester.send(f"delen/v1/{tenant}/request", frame)
                    ending.wait(0.05)

    thread = threading.Thread(target=send, name="traffic")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


class Listener:
    """Counts what goes out for others to watch, as a subscriber to all of it gets it."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker
        self._client = new_client(
            BrokerAddress(host=broker.host, port=broker.port), client_id="listener"
        )
        self._client.on_message = self._received
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self.heard: list[tuple[float, str, int]] = []
        """When, on which topic, and how many bytes."""

    def say_birth(self) -> None:
        """Says what Home Assistant says when it has started."""
        self._client.publish("homeassistant/status", b"online", qos=1)

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        own = ("homeassistant/device/+/config", f"delen/v1/+/telemetry/{NAME}")
        of_appliance = (f"delen/v1/appliances/{NAME}/{what}" for what in ("status", "telemetry"))
        self._client.subscribe([(topic, 1) for topic in (*own, *of_appliance)])
        self._client.loop_start()
        self._subscribed.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        size = len(message.topic.encode()) + len(message.payload) + PACKET_BYTES
        self.heard.append((time.monotonic(), message.topic, size))


if __name__ == "__main__":
    report(measure())
