"""What the benchmarks run against: an appliance and an echo, each a process of its own."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from typing_extensions import Self

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress, new_client
from appliance.demo.child import Appliance
from appliance.messages import POLICY_STATE
from appliance.session import Session

NAME = "bench"
WAIT_S = 20.0


@contextmanager
def running_appliance(
    broker: Mosquitto,
    folder: Path,
    *,
    engines: Path,
    policies: Mapping[str, str],
    settings: Mapping[str, str] | None = None,
) -> Iterator[Appliance]:
    """`delen serve` online, with the policies (by tenant) in force and further settings.

    Without any, energy is modelled, so that no meter's work is in what is measured.
    """
    (folder / "conditions").mkdir()
    values = {
        "MQTT_HOST": broker.host,
        "MQTT_PORT": str(broker.port),
        "ENGINES": str(engines.resolve()),
        "THREADS": "1",
        "METER": "modelled",
        **(settings or {}),
    }
    address = BrokerAddress(host=broker.host, port=broker.port)
    with Appliance(NAME, folder=folder, settings=values) as appliance, Session(address) as client:
        for tenant, policy in policies.items():
            _push(client, tenant, policy, appliance)
        yield appliance


def _push(client: Session, tenant: str, policy: str, appliance: Appliance) -> None:
    """Puts a policy in force; retained, because the appliance may not be online yet."""
    in_force = threading.Event()

    def received(_topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        if payload and POLICY_STATE.validate_json(payload).version is not None:
            in_force.set()

    client.watch(client.topics.policy_state(tenant, NAME), received)
    client.publish(client.topics.policy_set(tenant), policy.encode(), retain=True)
    if not in_force.wait(WAIT_S):
        appliance.check()
        raise TimeoutError(f"the policy of {tenant} is not in force: {appliance.last_lines()}")


ECHO = """
import sys
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from appliance.connection import BrokerAddress, new_client

def echo(client, userdata, message):
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = message.properties.CorrelationData
    client.publish(message.properties.ResponseTopic, reply, qos=1, properties=properties)

reply = bytes(int(sys.argv[2]))
topic = sys.argv[3]
client = new_client(BrokerAddress(host="127.0.0.1", port=int(sys.argv[1])), client_id="echo")
client.on_message = echo
client.connect("127.0.0.1", int(sys.argv[1]))
client.on_subscribe = lambda *_: print("ready", flush=True)
client.subscribe(topic, qos=1)
client.loop_forever()
"""


@contextmanager
def running_echo(broker: Mosquitto, *, topic: str, reply_bytes: int) -> Iterator[None]:
    """A bare paho client, ready, that answers what comes to the topic with as many bytes."""
    command = [sys.executable, "-c", ECHO, str(broker.port), str(reply_bytes), topic]
    process = Popen(command, stdout=PIPE)
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the echo did not start")
        yield
    finally:
        process.kill()
        process.wait()


class Requester:
    """A bare paho client that sends a request and waits for its reply: the same for both sides."""

    def __init__(self, broker: Mosquitto, response_topic: str) -> None:
        address = BrokerAddress(host=broker.host, port=broker.port)
        self._client = new_client(
            address, client_id=f"requester-{response_topic}".replace("/", "-")
        )
        self._client.on_message = self._received
        self._response_topic = response_topic
        self._address = address
        self._waiting: dict[bytes, threading.Event] = {}
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._numbers = itertools.count(1)
        self.last_reply = b""

    def __enter__(self) -> Self:
        self._client.connect(self._address.host, self._address.port)
        self._client.subscribe(self._response_topic, qos=1)
        self._client.loop_start()
        self._subscribed.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, topic: str, frame: bytes) -> threading.Event:
        """Publishes a request with QoS 1; the event is set when its reply is there."""
        correlation = next(self._numbers).to_bytes(8, "big")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = self._response_topic
        properties.CorrelationData = correlation
        self._waiting[correlation] = there = threading.Event()
        self._client.publish(topic, frame, qos=1, properties=properties)
        return there

    def round_trip_s(self, topic: str, frame: bytes) -> float:
        """One request and its reply, in seconds."""
        started_s = time.perf_counter()
        if not self.send(topic, frame).wait(WAIT_S):
            raise TimeoutError(f"no reply on {self._response_topic}")
        return time.perf_counter() - started_s

    def per_second(self, topic: str, frame: bytes, *, outstanding: int, requests: int) -> float:
        """Requests answered per second with so many on their way at a time."""
        started_s = time.perf_counter()
        on_their_way = [self.send(topic, frame) for _ in range(outstanding)]
        for _ in range(requests):
            on_their_way.pop(0).wait(WAIT_S)
            on_their_way.append(self.send(topic, frame))
        for there in on_their_way:
            there.wait(WAIT_S)
        return (requests + outstanding) / (time.perf_counter() - started_s)

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        there = self._waiting.pop(message.properties.CorrelationData)  # type: ignore[union-attr]
        self.last_reply = bytes(message.payload)
        there.set()
