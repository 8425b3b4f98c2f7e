"""Somebody who hears all that the appliance says."""

from __future__ import annotations

import json
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from appliance.broker import HOST
from appliance.errors import Code
from appliance.messages import POLICY_STATE, REPLY, Result
from appliance.topics import Topics
from tests.faults.history import Heard, Joules, Told

SESSION_S = 3600
OUT = "out of service"
"""What a rejection says where the push's engine does not serve."""


class Observer:
    """A session of its own at the broker, which keeps for it what it could not take."""

    def __init__(self, *, topics: Topics, appliance: str, port: int) -> None:
        self.heard: list[Heard] = []
        self.told: list[Told] = []
        self.joules: list[Joules] = []
        self.statuses: list[bytes] = []
        self._topics = topics
        self._appliance = appliance
        self._port = port
        self._ready = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id="observer",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.message_callback_add(f"{topics.prefix}/+/result/#", self._hear)
        self._client.message_callback_add(f"{topics.prefix}/+/policy/state/+", self._take_state)
        self._client.message_callback_add(
            topics.appliance_status(appliance),
            lambda _client, _data, message: self.statuses.append(bytes(message.payload)),
        )
        self._client.message_callback_add(
            topics.appliance_telemetry(appliance), self._take_telemetry
        )

    def __enter__(self) -> Self:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        self._client.connect_async(HOST, self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        if not self._ready.wait(20.0):
            raise TimeoutError("the observer hears nothing")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def results(self, prefix: bytes) -> list[Heard]:
        """The results whose correlation data begins like this."""
        return [
            one
            for one in list(self.heard)
            if isinstance(one.reply, Result) and (one.correlation or b"").startswith(prefix)
        ]

    def _connected(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        prefix = self._topics.prefix
        client.subscribe(
            [
                (f"{prefix}/+/result/#", 1),
                (f"{prefix}/+/policy/state/+", 1),
                (f"{prefix}/appliances/#", 1),
            ]
        )

    def _hear(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        topic = message.topic
        self.heard.append(
            Heard(
                topic=topic,
                tenant=topic.removeprefix(f"{self._topics.prefix}/").split("/")[0],
                correlation=getattr(message.properties, "CorrelationData", None),
                reply=REPLY.validate_json(message.payload),
                at_s=time.time(),
            )
        )

    def _take_state(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        if message.payload:
            state = POLICY_STATE.validate_json(message.payload)
            rejection = state.last_rejection
            self.told.append(
                Told(
                    tenant=state.tenant,
                    version=state.version,
                    unable=rejection is not None
                    and (rejection.code == Code.ENGINE_FAILED or OUT in rejection.detail),
                )
            )

    def _take_telemetry(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        energy = json.loads(message.payload)["energy"]
        self.joules.append(
            Joules(
                tenants_j=energy["tenants_j"],
                idle_j=energy["idle_j"],
                unattributed_j=energy["unattributed_j"],
                integrated_j=energy["integrated_j"],
            )
        )
