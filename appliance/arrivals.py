"""What a message asks for: it becomes a request, with the reason why it is refused, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt

from appliance.duplicates import new_id
from appliance.errors import Code, Rejected
from appliance.messages import Arrival, Request
from appliance.topics import Address, Topics

MAX_CORRELATION_BYTES = 1024
"""How much Correlation Data comes back: it is kept for every request in hand and in the log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reception:
    """When a message came, and what the gateway calls its delivery."""

    received_s: float
    arrived_at_s: float
    delivery: int
    draining: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrivals:
    """Reads messages on the topics of requests; what is wrong with one is said in its arrival."""

    topics: Topics
    max_frame_bytes: int

    def read(self, address: Address, message: mqtt.MQTTMessage, reception: Reception) -> Arrival:
        """The request that a message is, refused where it breaks a rule that needs no engine."""
        properties: Any = message.properties
        refusal = self._refusal(message, draining=reception.draining)
        response_topic = getattr(properties, "ResponseTopic", None)
        try:
            reply_topic = self.topics.reply(address.tenant, address.stream, response_topic)
        except Rejected as error:
            refusal = error
            reply_topic = self.topics.result(address.tenant, address.stream)
        correlation = getattr(properties, "CorrelationData", None)
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            refusal = Rejected(
                Code.TOO_LARGE,
                f"the Correlation Data has {len(correlation)} bytes; at most"
                f" {MAX_CORRELATION_BYTES} come back",
            )
            correlation = None
        expiry_s = getattr(properties, "MessageExpiryInterval", None)
        request = Request(
            id=new_id(reception.arrived_at_s),
            tenant=address.tenant,
            stream=address.stream,
            received_s=reception.received_s,
            arrived_at_s=reception.arrived_at_s,
            reply_topic=reply_topic,
            correlation=correlation,
            expires_s=None if expiry_s is None else reception.received_s + expiry_s,
            qos=message.qos,
            delivery=reception.delivery,
            packet_id=message.mid,
            redelivered=message.dup,
        )
        return Arrival(
            request=request,
            payload=message.payload,
            content_type=getattr(properties, "ContentType", None),
            refusal=refusal,
        )

    def _refusal(self, message: mqtt.MQTTMessage, *, draining: bool) -> Rejected | None:
        if message.retain:
            return Rejected(
                Code.MALFORMED,
                "a request must not be retained, or the broker repeats it: publish without retain",
            )
        if draining:
            return Rejected(Code.SHUTTING_DOWN, "the appliance is stopping; try again later")
        if len(message.payload) > self.max_frame_bytes:
            return Rejected(
                Code.TOO_LARGE,
                f"the frame has {len(message.payload)} bytes; at most {self.max_frame_bytes}"
                " are accepted (DELEN_MAX_FRAME)",
            )
        return None
