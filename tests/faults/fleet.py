"""A fleet manager that pushes policies, good and bad ones, and keeps book of them."""

from __future__ import annotations

from collections import Counter

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from typing_extensions import Self

from appliance.broker import HOST
from appliance.topics import Topics
from tests.faults.history import Push
from tests.faults.outbox import Outbox

ROOM = 5_000


class Fleet:
    """Pushes by QoS 1; what is valid is retained, as docs/guarantees.md advises."""

    def __init__(self, *, topics: Topics, port: int) -> None:
        self._topics = topics
        self._port = port
        self._versions: Counter[str] = Counter()
        self._outbox: Outbox[Push] = Outbox()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="fleet", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = lambda _client, _data, mid, *_: self._outbox.acknowledged(mid)

    def __enter__(self) -> Self:
        self._client.connect_async(HOST, self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def push(self, tenant: str, engine: str) -> int:
        """Pushes the tenant's next version; its number."""
        self._versions[tenant] += 1
        version = self._versions[tenant]
        self._publish(Push(tenant=tenant, version=version, valid=True, acknowledged_s=None), engine)
        return version

    def push_nonsense(self, tenant: str) -> None:
        """Pushes a version above the tenant's that must be turned away."""
        version = self._versions[tenant] + 1_000
        self._publish(
            Push(tenant=tenant, version=version, valid=False, acknowledged_s=None), "nowhere"
        )

    def command(self, appliance: str, payload: bytes) -> None:
        """Tells the appliance something."""
        self._client.publish(self._topics.appliance_command(appliance), payload, qos=1)

    def pushes(self) -> list[Push]:
        """What was pushed so far."""
        return [push for push, _ in self._outbox.items()]

    def outstanding(self) -> int:
        """How many pushes the broker has not acknowledged."""
        return self._outbox.outstanding()

    def _publish(self, push: Push, engine: str) -> None:
        document = (
            f"tenant: {push.tenant}\nversion: {push.version}\nengine: {engine}\n"
            f"exit_when: exit >= {push.version % 2}\nqueue: {{limit: {ROOM}}}\n"
        )
        topic = self._topics.policy_set(push.tenant)
        self._outbox.publish(
            push,
            lambda: self._client.publish(topic, document.encode(), qos=1, retain=push.valid),
        )
