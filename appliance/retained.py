"""The policies that the broker has retained, asked for over a connection of its own."""

from __future__ import annotations

import threading
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.connection import BrokerAddress, Connection, Listener, Terms
from appliance.errors import BrokerError
from appliance.topics import Topics, Verb

TIMEOUT_S = 3.0
MOST_BYTES = 10_000_000

_WITH_RETAINED, _WITHOUT = 0, 2
"""How a subscription treats what is retained (MQTT 5, section 3.8.3.1)."""


def retained_policies(broker: BrokerAddress, topics: Topics) -> dict[str, bytes]:
    """The retained documents on `policy/set`, by tenant.

    Raises BrokerError where the broker does not answer within seconds.
    """
    found: dict[str, bytes] = {}
    ended = threading.Event()
    answered: list[int] = []
    trouble = ["it gives no answer"]

    def accepted(_session_present: bool) -> None:  # noqa: FBT001 - it is told this alone
        # By QoS 0, which no limit of messages in flight delays. What is retained for the first
        # comes before the answer to the second.
        for handling in (_WITH_RETAINED, _WITHOUT):
            options = SubscribeOptions(qos=0, retainHandling=handling)
            connection.client.subscribe(topics.every_policy_set(), options=options)

    def received(message: mqtt.MQTTMessage) -> None:
        address = topics.parse(message.topic)
        if message.retain and address is not None and address.verb is Verb.POLICY_SET:
            found[address.tenant] = bytes(message.payload)

    def subscribed(mid: int, _reasons: object) -> None:
        answered.append(mid)
        if len(answered) == 2:
            ended.set()

    def failed(sentence: str) -> None:
        trouble.append(sentence)
        ended.set()

    connection = Connection(
        broker,
        client_id=f"delen-retained-{uuid.uuid4().hex[:12]}",
        listener=Listener(
            accepted=accepted,
            refused=failed,
            lost=failed,
            received=received,
            subscribed=subscribed,
        ),
        terms=Terms(max_packet_bytes=MOST_BYTES),
    )
    connection.open()
    ended.wait(TIMEOUT_S)
    connection.close()
    if len(answered) < 2:
        raise BrokerError(
            f"the broker at {broker} does not tell what it has retained: {trouble[-1]}"
        )
    return found
