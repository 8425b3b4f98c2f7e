"""The tenant `gate` that most tests serve: its policy, its frames, its replies."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from PIL import Image

from appliance.broker import Mosquitto
from appliance.messages import Rejection, Reply, Result
from appliance.settings import Settings
from tests.appliances import WAIT_S, settings_for
from tests.engines import tiny_engine

POLICY = """
tenant: gate
version: 1
engine: tiny
exit_when: exit >= 0
"""


def gate_settings(broker: Mosquitto, folder: Path, **overrides: object) -> Settings:
    tiny_engine(folder / "engines" / "tiny")
    return settings_for(broker, folder, **overrides)


def npy(array: NDArray[np.float32] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.full((1, 8, 8), 0.5, np.float32) if array is None else array)
    return buffer.getvalue()


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 48), 200).save(buffer, "JPEG")
    return buffer.getvalue()


def rejected(reply: Reply) -> Rejection:
    assert isinstance(reply, Rejection), reply
    return reply


def answered(reply: Reply) -> Result:
    assert isinstance(reply, Result), reply
    return reply


def publish_frame(
    settings: Settings,
    topic: str,
    frame: bytes,
    *,
    qos: int = 1,
    retain: bool = False,
    response_topic: str | None = None,
    correlation: bytes | None = None,
) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if correlation is not None:
        properties.CorrelationData = correlation
    sensor = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    sensor.connect(settings.mqtt_host, settings.mqtt_port)
    sensor.loop_start()
    sensor.publish(topic, frame, qos=qos, retain=retain, properties=properties).wait_for_publish(
        WAIT_S
    )
    sensor.disconnect()
    sensor.loop_stop()
