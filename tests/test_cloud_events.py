"""Replies as CloudEvents in binary mode, to MQTT 5 receivers and to those of 3.1.1."""

from __future__ import annotations

import json
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from appliance.broker import Mosquitto
from appliance.client import Client
from appliance.messages import Rejection, Reply, Result
from appliance.payloads import payload_of
from appliance.settings import Settings
from tests.appliances import WAIT_S, client_of, push, serving, settings_for
from tests.engines import tiny_engine

POLICY = "{tenant: gate, version: 1, engine: tiny, exit_when: exit >= 0}"


def heard_of(
    settings: Settings, protocol: MQTTProtocolVersion, frame: bytes
) -> tuple[mqtt.MQTTMessage, Reply]:
    """What a receiver on the tenant's results gets for a frame on the stream `nörth/`."""
    messages: SimpleQueue[mqtt.MQTTMessage] = SimpleQueue()
    receiver = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)

    def subscribe(*_: Any) -> None:
        receiver.subscribe(f"{settings.topic_prefix}/gate/result/#", 1)

    receiver.on_connect = subscribe
    receiver.on_subscribe = lambda *_: messages.put(mqtt.MQTTMessage())
    receiver.on_message = lambda _client, _data, message: messages.put(message)
    receiver.connect(settings.mqtt_host, settings.mqtt_port)
    receiver.loop_start()
    try:
        messages.get(timeout=WAIT_S)
        with Client.from_settings(settings, tenant="gate") as client:
            reply = client.infer(frame, stream="nörth")
        return messages.get(timeout=WAIT_S), reply
    finally:
        receiver.disconnect()
        receiver.loop_stop()
        receiver.on_connect = None  # it refers to the receiver, whose sockets would stay open


@pytest.fixture
def settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    tiny_engine(tmp_path / "engines" / "tiny")
    return settings_for(broker, tmp_path, appliance_id="box 7", cloudevents=True)


def test_a_reply_carries_the_attributes_of_a_cloud_event_as_user_properties(
    settings: Settings,
) -> None:
    with serving(settings):
        with client_of(settings) as session:
            push(session, POLICY)
        message, reply = heard_of(settings, MQTTProtocolVersion.MQTTv5, b"no frame")

    properties: Any = message.properties
    assert properties.ContentType == "application/json"
    assert dict(properties.UserProperty) == {
        "specversion": "1.0",
        "id": reply.id,
        "source": "urn:delen:appliance:box%207",
        "type": "delen.rejection",
        "time": reply.arrived_at,
        "subject": "gate/nörth",
    }
    assert isinstance(reply, Rejection)


def test_a_receiver_of_mqtt_3_1_1_gets_the_same_reply_as_ever(settings: Settings) -> None:
    frame = payload_of(np.ones((1, 8, 8), np.float32)).frame

    with serving(settings):
        with client_of(settings) as session:
            push(session, POLICY)
        message, reply = heard_of(settings, MQTTProtocolVersion.MQTTv311, frame)

    assert message.properties is None
    assert isinstance(reply, Result)
    assert json.loads(message.payload)["id"] == reply.id


def test_without_the_setting_there_are_no_user_properties(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_for(broker, tmp_path)

    with serving(settings):
        message, _ = heard_of(settings, MQTTProtocolVersion.MQTTv5, b"no frame")

    assert message.properties is not None
    assert not hasattr(message.properties, "UserProperty")
