"""Long abuse, seeded: `make abuse` runs it, `ABUSE_S` says for how many seconds each."""

from __future__ import annotations

import os
import random
import socket
import time
from itertools import count, repeat, takewhile
from pathlib import Path

import pytest

from appliance.broker import Mosquitto
from appliance.messages import Result
from tests import raw_mqtt
from tests.appliances import ApplianceProcess, client_of, push
from tests.conftest import StartBroker
from tests.gate import POLICY, gate_settings, npy
from tests.raw_mqtt import HostileBroker, packet, publish
from tests.test_flood import (
    MEGABYTE,
    PATIENT_POLICY,
    memory_bytes,
    most_memory_bytes,
    raw_client,
    slow_to_decode,
    standing_still,
)
from tests.test_hostile_broker import ACCEPTED, Desk, hangs_up

pytestmark = pytest.mark.abuse

ABUSE_S = float(os.environ.get("ABUSE_S", "20"))

SEED = int(os.environ.get("ABUSE_SEED", "1"))


def mutated(chance: random.Random, data: bytes) -> bytes:
    """A packet with some bytes changed, added or taken away; its length may be wrong."""
    body = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(body) + 1)
        match chance.randrange(3):
            case 0 if place < len(body):
                body[place] = chance.randrange(256)
            case 1:
                body.insert(place, chance.choice((0, 1, 0x7F, 0x80, 0xFF)))
            case _:
                del body[place:]
    return bytes(body)


def packets_of(topic: str) -> list[bytes]:
    """What a broker may send, whole."""
    properties = (
        raw_mqtt.response_topic(f"{topic}/x")
        + raw_mqtt.correlation(b"abc")
        + raw_mqtt.user_property("a", "b")
        + raw_mqtt.expiry(60)
    )
    return [
        ACCEPTED,
        publish(topic, b"frame", qos=1, packet_id=3, properties=properties),
        publish(topic, b"frame", qos=2, packet_id=4, properties=properties),
        publish(topic, b"frame", retain=True),
        packet(raw_mqtt.PUBACK, b"\x00\x01\x10\x00"),
        packet(raw_mqtt.SUBACK, b"\x00\x01\x00\x01\x01\x01"),
        packet(0x62, b"\x00\x04"),
        packet(0xD0, b""),
        packet(raw_mqtt.DISCONNECT, b"\x8b\x00"),
    ]


def test_mutated_packets_of_a_broker_end_no_thread(broker: Mosquitto) -> None:
    chance, ends_s = random.Random(SEED), time.monotonic() + ABUSE_S
    connections = count()

    def plays(connection: socket.socket) -> None:
        next(connections)
        parts = chance.choices(packets_of("test/gate/request"), k=4)
        connection.sendall(b"".join([ACCEPTED, *(mutated(chance, data) for data in parts)]))
        hangs_up(connection)

    scripts = takewhile(lambda _: time.monotonic() < ends_s, repeat(plays))
    with HostileBroker(scripts, real=(broker.host, broker.port)) as hostile:
        desk = Desk(hostile)
        desk.gateway.open()
        try:
            while time.monotonic() < ends_s:
                time.sleep(0.1)
            served = desk.is_served(broker)
        finally:
            desk.gateway.close()

    assert served
    assert next(connections) > ABUSE_S


def test_a_flood_of_the_largest_frames_takes_no_answer_from_another_tenant(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path, frame_memory="40MB", max_frame="10MB")
    frame = slow_to_decode()
    sent = answered = asked = 0

    with ApplianceProcess(settings) as appliance, client_of(settings) as client:
        appliance.start()
        push(client, POLICY)
        push(client, POLICY.replace("gate", "flood"), tenant="flood")
        before, ends_s = memory_bytes(appliance), time.monotonic() + ABUSE_S
        with raw_client(settings) as raw:
            while time.monotonic() < ends_s:
                for _ in range(10):
                    raw.send(publish(client.topics.request("flood"), frame))
                    sent += 1
                asked += 1
                answered += isinstance(client.infer("gate", npy(), timeout_s=60.0), Result)
        grown = most_memory_bytes(appliance) - before

    assert answered == asked
    assert grown < (40 + 120) * MEGABYTE, f"{grown / MEGABYTE:.0f} MB for {sent} frames"


def test_a_broker_that_stands_still_again_and_again_costs_no_answer(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker, chance = start_broker(), random.Random(SEED)
    settings, replies = gate_settings(broker, tmp_path), []
    with ApplianceProcess(settings) as appliance, client_of(settings) as client:
        appliance.start()
        push(client, PATIENT_POLICY)
        ends_s = time.monotonic() + ABUSE_S
        while time.monotonic() < ends_s:
            replies += [client.submit("gate", npy()) for _ in range(20)]
            with standing_still(broker):
                time.sleep(chance.uniform(0.0, 1.0))
            time.sleep(chance.uniform(0.0, 0.2))
        answers = {type(reply.result(60.0)) for reply in replies}

    assert answers == {Result}
