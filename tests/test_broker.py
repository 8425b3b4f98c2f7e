"""The broker that the demo and the tests run."""

from __future__ import annotations

import queue
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance import broker as broker_module
from appliance.broker import Mosquitto
from appliance.errors import BrokerError
from tests.conftest import StartBroker
from tests.waiting import PATIENCE_S, wait_until


def publish(broker: Mosquitto, topic: str, payload: str, *options: str) -> int:
    """The exit code of `mosquitto_pub`, with which it says whether the broker took the message."""
    command = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-t", topic]
    return subprocess.run([*command, "-m", payload, "-q", "1", *options], check=False).returncode


def subscribe_once(broker: Mosquitto, topic: str, *options: str) -> str:
    """The payload of the first message that `mosquitto_sub` gets."""
    command = ["mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-t", topic, "-C", "1"]
    done = subprocess.run(
        [*command, "-W", str(PATIENCE_S), *options], check=False, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_it_takes_connections_once_it_is_entered(broker: Mosquitto) -> None:
    with socket.create_connection((broker.host, broker.port), timeout=PATIENCE_S) as connection:
        peer = connection.getpeername()

    assert peer == ("127.0.0.1", broker.port)


def test_a_retained_message_comes_back(broker: Mosquitto) -> None:
    publish(broker, "test-broker/greeting", "hello", "-r")

    assert subscribe_once(broker, "test-broker/greeting") == "hello"


def test_a_wrong_password_is_refused(start_broker: StartBroker) -> None:
    broker = start_broker(users={"gate": "its secret"})

    assert publish(broker, "topic", "hello", "-u", "gate", "-P", "its secret") == 0
    assert publish(broker, "topic", "hello", "-u", "gate", "-P", "another") != 0
    assert publish(broker, "topic", "hello") != 0


def test_passwords_are_written_hashed_and_for_the_owner_alone(tmp_path: Path) -> None:
    with Mosquitto(folder=tmp_path, users={"gate": "its secret"}):
        written = tmp_path / "passwords"

        assert "its secret" not in written.read_text()
        assert written.stat().st_mode & 0o077 == 0


def test_a_password_with_a_colon_is_refused_rather_than_cut_short(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no colon"):
        Mosquitto(folder=tmp_path, users={"gate": "a:b"}).start()


def test_an_acl_keeps_a_tenant_out_of_anothers_topics(start_broker: StartBroker) -> None:
    broker = start_broker(
        users={"gate": "g", "door": "d", "reader": "r"},
        acl="pattern write delen/v1/%u/request/#\n\nuser reader\ntopic read #\n",
    )

    publish(broker, "delen/v1/door/request/x", "forged", "-u", "gate", "-P", "g", "-r")
    publish(broker, "delen/v1/door/request/x", "own", "-u", "door", "-P", "d", "-r")
    seen = subscribe_once(broker, "delen/v1/door/request/x", "-u", "reader", "-P", "r")

    assert seen == "own"


def test_after_a_kill_it_starts_again_on_the_same_port(start_broker: StartBroker) -> None:
    broker = start_broker()
    before = broker.port, broker.pid

    broker.kill()
    assert broker.pid is None
    broker.start()

    assert broker.port == before[0]
    assert broker.pid != before[1]
    assert publish(broker, "topic", "hello") == 0


def test_with_persistence_a_queued_message_outlives_a_kill(start_broker: StartBroker) -> None:
    broker = start_broker(persistence=True)
    session = ["-i", "sleeper", "-c", "-q", "1"]
    subprocess.run(
        ["mosquitto_sub", "-p", str(broker.port), "-t", "orders", *session, "-E"], check=True
    )
    publish(broker, "orders", "kept")
    saved = broker.log.parent / "mosquitto.db"
    wait_until(lambda: saved.exists() and b"kept" in saved.read_bytes())

    broker.kill()
    broker.start()

    assert subscribe_once(broker, "orders", *session) == "kept"


def test_the_receive_maximum_of_a_client_decides_what_is_in_flight_to_it(
    broker: Mosquitto,
) -> None:
    receive_maximum, published = 64, 100
    received: queue.Queue[MQTTMessage] = queue.Queue()
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id="test-broker-inflight",
        protocol=MQTTProtocolVersion.MQTTv5,
        manual_ack=True,
    )
    client.on_message = lambda _client, _data, message: received.put(message)
    subscribed: queue.Queue[bool] = queue.Queue()
    client.on_subscribe = lambda *_: subscribed.put(True)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = receive_maximum
    client.connect(broker.host, broker.port, properties=properties)
    client.subscribe("inflight", options=SubscribeOptions(qos=1))
    client.loop_start()
    subscribed.get(timeout=PATIENCE_S)

    for number in range(published):
        client.publish("inflight", str(number), qos=1).wait_for_publish(PATIENCE_S)
    first = [received.get(timeout=PATIENCE_S) for _ in range(receive_maximum)]
    # The broker answers a subscription in order, so that whatever it meant to send has come by now.
    client.subscribe("another", options=SubscribeOptions(qos=1))
    subscribed.get(timeout=PATIENCE_S)
    held_back = received.empty()
    client.ack(first[0].mid, 1)
    next_one = received.get(timeout=PATIENCE_S)
    client.disconnect()
    client.loop_stop()

    assert held_back
    assert next_one.payload == str(receive_maximum).encode()


def test_a_packet_above_the_limit_is_refused(start_broker: StartBroker) -> None:
    broker = start_broker(max_packet_bytes=1000)

    assert publish(broker, "topic", "x" * 500) == 0
    assert publish(broker, "topic", "x" * 2000) != 0


def test_a_missing_mosquitto_is_said_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)

    with pytest.raises(BrokerError, match="sudo apt-get install mosquitto mosquitto-clients"):
        Mosquitto(folder=tmp_path).start()


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path, broker: Mosquitto) -> None:
    with pytest.raises(BrokerError, match="Address already in use"):
        Mosquitto(folder=tmp_path, port=broker.port).start()


def test_a_free_port_that_somebody_else_takes_first_is_tried_again(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_port = broker_module.free_port
    ports = iter([broker.port, find_port()])
    monkeypatch.setattr(broker_module, "free_port", lambda: next(ports))

    with Mosquitto(folder=tmp_path) as second:
        assert second.port != broker.port
        assert publish(second, "topic", "hello") == 0


def test_it_ends_with_its_block(tmp_path: Path) -> None:
    with Mosquitto(folder=tmp_path) as broker:
        port = broker.port

    assert broker.pid is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
