"""The gateway towards a broker that breaks the protocol: it reconnects, and is served again."""

from __future__ import annotations

import socket
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

import pytest

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.gateway import Gateway
from appliance.messages import Arrival
from appliance.topics import Topics
from tests import raw_mqtt
from tests.appliances import WAIT_S
from tests.raw_mqtt import HostileBroker, RawClient, Script, packet, publish
from tests.waiting import wait_until

AGAIN_S = 1.0
"""After which time a request is published again: nobody listened."""

ACCEPTED = packet(raw_mqtt.CONNACK, b"\x00\x00\x00")


def sends(*parts: bytes) -> Script:
    return lambda connection: connection.sendall(b"".join(parts))


def after_connack(*parts: bytes) -> Script:
    return sends(ACCEPTED, *parts)


def hangs_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def half_a_packet(connection: socket.socket) -> None:
    connection.sendall(ACCEPTED + b"\x30\x7f\x00")
    hangs_up(connection)


def puback(packet_id: int, *rest: int) -> bytes:
    return packet(raw_mqtt.PUBACK, struct.pack(">H", packet_id) + bytes(rest))


BREAKS_THE_PROTOCOL: dict[str, Script] = {
    "no MQTT at all": sends(b"HTTP/1.1 400 Bad Request\r\n" * 8),
    "an empty CONNACK": sends(packet(raw_mqtt.CONNACK, b"")),
    "a CONNACK with a reason that is none": sends(packet(raw_mqtt.CONNACK, b"\x00\x42\x00")),
    "a CONNACK whose properties are cut off": sends(packet(raw_mqtt.CONNACK, b"\x00\x00\x7f\x21")),
    "a CONNACK with a property that is none": sends(
        packet(raw_mqtt.CONNACK, b"\x00\x00\x02\x7e\x01")
    ),
    "a refusal": sends(packet(raw_mqtt.CONNACK, b"\x00\x87\x00")),
    "a packet of no kind": after_connack(packet(0x00, b"\x00")),
    "a length of five bytes": after_connack(b"\x30\xff\xff\xff\xff\x01"),
    "a PUBLISH without a topic": after_connack(packet(raw_mqtt.PUBLISH, b"")),
    "a PUBLISH whose topic is cut off": after_connack(packet(raw_mqtt.PUBLISH, b"\xff\xffab")),
    "a PUBLISH of QoS 3": after_connack(packet(raw_mqtt.PUBLISH | 0x06, b"\x00\x01a\x00\x01\x00")),
    "a PUBLISH without a packet id": after_connack(packet(raw_mqtt.PUBLISH | 0x02, b"\x00\x01a")),
    "a PUBLISH with broken properties": after_connack(
        packet(raw_mqtt.PUBLISH, b"\x00\x01a\x05\x26\xff\xff")
    ),
    "a SUBACK that is cut off": after_connack(packet(raw_mqtt.SUBACK, b"\x00")),
    "a PUBACK that is cut off": after_connack(packet(raw_mqtt.PUBACK, b"\x00")),
    "a PUBACK with a reason that is none": after_connack(puback(1, 0x42, 0)),
    "an oversize packet": after_connack(b"\x30" + raw_mqtt.variable_length(200_000_000)),
    "a DISCONNECT with a reason that is none": after_connack(
        packet(raw_mqtt.DISCONNECT, b"\x42\x00")
    ),
    "an orderly DISCONNECT": after_connack(packet(raw_mqtt.DISCONNECT, b"\x8b\x00")),
    "half a packet and the end": half_a_packet,
}


class Desk:
    """A gateway behind a hostile broker, and what it hands over."""

    def __init__(self, hostile: HostileBroker, *, keepalive_s: int = 30) -> None:
        self.fails = False
        self.arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self.topics = Topics(f"test/{uuid.uuid4().hex[:8]}")
        self.gateway = Gateway(
            broker=BrokerAddress(host="127.0.0.1", port=hostile.port),
            topics=self.topics,
            appliance=f"box-{uuid.uuid4().hex[:8]}",
            on_request=self._take,
            on_policy=lambda _push: None,
            on_command=lambda _push: None,
            clock=time.monotonic,
            wall_clock=time.time,
            max_frame_bytes=1_000_000,
            receive_maximum=64,
            session_expiry_s=60,
            cloud_events=False,
            keepalive_s=keepalive_s,
            first_retry_s=0,
        )

    def _take(self, arrival: Arrival) -> None:
        self.arrivals.put(arrival)
        if self.fails:
            raise RuntimeError("nobody foresaw this")
        self.gateway.settled(arrival.request.delivery)

    def is_served(self, broker: Mosquitto) -> bool:
        """Whether a request that is published arrives, be it only once it has come back online."""
        frame, ends_s = uuid.uuid4().bytes, time.monotonic() + WAIT_S
        while time.monotonic() < ends_s:
            with RawClient(broker.host, broker.port, client_id=uuid.uuid4().hex) as client:
                client.send(publish(self.topics.request("gate"), frame, qos=1))
                client.read()
            with suppress(Empty):
                while (arrival := self.arrivals.get(timeout=AGAIN_S)).payload != frame:
                    pass
                return arrival.request.qos == 1
        return False


@contextmanager
def desk_behind(script: Script, broker: Mosquitto, *, keepalive_s: int = 30) -> Iterator[Desk]:
    with HostileBroker([script], real=(broker.host, broker.port)) as hostile:
        desk = Desk(hostile, keepalive_s=keepalive_s)
        desk.gateway.open()
        try:
            yield desk
        finally:
            desk.gateway.close()


@pytest.mark.parametrize("script", BREAKS_THE_PROTOCOL.values(), ids=BREAKS_THE_PROTOCOL)
def test_a_broker_that_breaks_the_protocol_is_left_and_tried_again(
    script: Script, broker: Mosquitto
) -> None:
    with desk_behind(script, broker) as desk:
        assert desk.is_served(broker)


def serves_nonsense(connection: socket.socket) -> None:
    """Acknowledges what was never sent, publishes what nobody asked for, and then hangs up."""
    topic = "test/none/request"
    connection.sendall(
        ACCEPTED
        + puback(4242)
        + puback(0)
        + publish(topic, b"1", qos=1, packet_id=0)
        + publish(topic, b"2", qos=2, packet_id=9)
        + packet(0x62, struct.pack(">H", 9))  # PUBREL
        + packet(0x62, struct.pack(">H", 77))  # of what was never published
        + publish("", b"3", properties=raw_mqtt.topic_alias(3))
        + publish(b"\xff\xfe/request", b"4", qos=1)
        + publish("\x00/request", b"5", qos=1)
        + packet(0xD0, b"")  # a PINGRESP that nobody asked for
        + packet(raw_mqtt.SUBACK, struct.pack(">HB", 999, 0) + b"\x01")
    )
    hangs_up(connection)


def test_a_broker_that_speaks_nonsense_is_listened_to_and_served_again(broker: Mosquitto) -> None:
    with desk_behind(serves_nonsense, broker) as desk:
        assert desk.is_served(broker)


def test_a_broker_that_falls_silent_within_a_packet_is_left(broker: Mosquitto) -> None:
    half = after_connack(b"\x30\x7f\x00")

    with desk_behind(half, broker, keepalive_s=1) as desk:
        assert desk.is_served(broker)


def test_a_message_that_nobody_foresaw_is_acknowledged_and_the_next_one_served(
    broker: Mosquitto,
) -> None:
    with desk_behind(hangs_up, broker) as desk:
        desk.fails = True
        desk.is_served(broker)

        desk.fails = False

        assert desk.is_served(broker)
        wait_until(lambda: desk.gateway.open_deliveries() == 0)


def test_who_is_thrown_out_by_another_of_its_id_says_what_to_do_also_once_it_is_back(
    broker: Mosquitto,
) -> None:
    taken_over = after_connack(packet(raw_mqtt.DISCONNECT, b"\x8e\x00"))

    with desk_behind(taken_over, broker) as desk:
        served = desk.is_served(broker)
        trouble = desk.gateway.trouble

    assert served
    assert trouble is not None
    assert "give each a DELEN_APPLIANCE_ID of its own" in trouble
