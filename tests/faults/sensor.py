"""A sensor that keeps book: what it published, and what the broker acknowledged."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from typing_extensions import Self

from appliance.broker import HOST
from appliance.topics import Topics
from tests.faults.history import Sent
from tests.faults.outbox import Outbox

STREAMS = 4
RECONNECT_S = 1


class Sensor:
    """One real client, of MQTT 5 with correlation data or of MQTT 3.1.1 without.

    It sends by QoS 1 and reconnects by itself; paho sends again what was not acknowledged.
    """

    def __init__(self, *, name: str, tenant: str, topics: Topics, port: int, marked: bool) -> None:
        self.name = name
        self.tenant = tenant
        self._topics = topics
        self._port = port
        self._marked = marked
        self._numbers = itertools.count(1)
        self._outbox: Outbox[Sent] = Outbox()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=MQTTProtocolVersion.MQTTv5 if marked else MQTTProtocolVersion.MQTTv311,
        )
        self._client.reconnect_delay_set(RECONNECT_S, RECONNECT_S)
        self._client.on_connect = lambda *_: self._outbox.connected()
        self._client.on_publish = lambda _client, _data, mid, *_: self._outbox.acknowledged(mid)

    def __enter__(self) -> Self:
        self._client.connect_async(HOST, self._port, keepalive=5)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(
        self,
        frame: bytes,
        *,
        tolerated: frozenset[int] = frozenset(),
        expires_s: int | None = None,
        foreign_topic: str | None = None,
    ) -> None:
        """Publishes a request; a Response Topic of another tenant's must be refused."""
        number = next(self._numbers)
        stream = f"{self.name}-{number % STREAMS}"
        own = self._topics.result(self.tenant, self.name if self._marked else stream)
        correlation = f"{self.name}:{number}".encode() if self._marked else None
        sent = Sent(
            tenant=self.tenant,
            stream=stream,
            correlation=correlation,
            reply_topic=self._topics.result(self.tenant, stream) if foreign_topic else own,
            published_s=time.time(),
            acknowledged_s=None,
            tolerated=tolerated,
            expires=expires_s is not None,
        )
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = foreign_topic or own
            properties.CorrelationData = correlation
            if expires_s is not None:
                properties.MessageExpiryInterval = expires_s
        topic = self._topics.request(self.tenant, stream)
        self._outbox.publish(
            sent, lambda: self._client.publish(topic, frame, qos=1, properties=properties)
        )

    def outstanding(self) -> int:
        """How many requests the broker has not acknowledged."""
        return self._outbox.outstanding()

    def sent(self) -> list[Sent]:
        """What was published so far."""
        return [replace(sent, transmissions=times) for sent, times in self._outbox.items()]
