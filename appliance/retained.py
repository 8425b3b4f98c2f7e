"""The policies that the broker has retained, asked for over a connection of its own."""

from __future__ import annotations

import threading
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.connection import BrokerAddress, new_client
from appliance.errors import BrokerError
from appliance.topics import Topics, Verb

TIMEOUT_S = 3.0
MOST_BYTES = 10e6

_WITH_RETAINED, _WITHOUT = 0, 2
"""How a subscription treats what is retained (MQTT 5, section 3.8.3.1)."""


def retained_policies(broker: BrokerAddress, topics: Topics) -> dict[str, bytes]:
    """The retained documents on `policy/set`, by tenant.

    Raises BrokerError where the broker does not answer within seconds.
    """
    found: dict[str, bytes] = {}
    ended = threading.Event()
    answered: list[bool] = []

    def connected(
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            ended.set()
            return
        # By QoS 0, which no limit of messages in flight delays. What is retained for the first
        # comes before the answer to the second.
        for handling in (_WITH_RETAINED, _WITHOUT):
            options = SubscribeOptions(qos=0, retainHandling=handling)
            client.subscribe(topics.every_policy_set(), options=options)

    def received(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        address = topics.parse(message.topic)
        if message.retain and address is not None and address.verb is Verb.POLICY_SET:
            found[address.tenant] = bytes(message.payload)

    def subscribed(*_: object) -> None:
        answered.append(True)
        if len(answered) == 2:
            ended.set()

    client = new_client(
        broker, client_id=f"delen-retained-{uuid.uuid4().hex[:12]}", max_packet_bytes=MOST_BYTES
    )
    client.on_connect = connected
    client.on_message = received
    client.on_subscribe = subscribed
    client.on_connect_fail = lambda *_: ended.set()
    client.connect_async(broker.host, broker.port)
    client.loop_start()
    ended.wait(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()
    if len(answered) < 2:
        raise BrokerError(f"the broker at {broker} does not tell what it has retained")
    return found
