"""MQTT in and out: the one connection to the broker."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.cloud_events import attributes_of
from appliance.connection import BrokerAddress, new_client
from appliance.deliveries import Deliveries, Done
from appliance.errors import Code, Rejected
from appliance.messages import REPLY, Arrival, CommandPush, PolicyPush, Reply, Request, Status
from appliance.reply_properties import ReplyProperties
from appliance.topics import Address, Topics, Verb

_log = logging.getLogger(__name__)

MAX_INFLIGHT = 20
"""Replies on their way at a time; paho ignores the broker's Receive Maximum, so it is low."""

PACKET_OVERHEAD_BYTES = 64
"""What the fixed header and the lengths add to a packet at most."""

KEEPALIVE_S = 30

DRAIN_S = 5.0
"""How long a stop waits for the broker to take what is in flight."""


class Gateway:
    """Hands over what arrives, publishes replies, and acknowledges a request once both its reply
    is with the broker and its row is in the log.

    `on_request`, `on_policy` and `on_command` are called on paho's network thread, which they must
    not hold up. It reconnects by itself for ever; the broker keeps the session, its subscriptions
    and the unacknowledged requests meanwhile.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        broker: BrokerAddress,
        topics: Topics,
        appliance: str,
        on_request: Callable[[Arrival], None],
        on_policy: Callable[[PolicyPush], None],
        on_command: Callable[[CommandPush], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        max_frame_bytes: int,
        receive_maximum: int,
        session_expiry_s: int,
        cloud_events: bool,
    ) -> None:
        self._topics = topics
        self._appliance = appliance
        self._on_request = on_request
        self._on_policy = on_policy
        self._on_command = on_command
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_frame_bytes = max_frame_bytes
        self._cloud_events = cloud_events
        self._max_packet_bytes = math.inf
        self._draining = False
        self.connected = threading.Event()
        self.trouble: str | None = f"the broker at {broker} has not answered yet"
        # The lock guards the four fields below it; whoever holds it neither waits nor publishes.
        self._lock = threading.Lock()
        self._deliveries = Deliveries()
        self._publishing: dict[int, int] = {}
        self._publish_calls = 0
        self._published_early: set[int] = set()
        self._broker = broker
        self._client = self._new_client(broker)
        self._connect_properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        self._connect_properties.ReceiveMaximum = receive_maximum
        self._connect_properties.SessionExpiryInterval = session_expiry_s

    def _new_client(self, broker: BrokerAddress) -> mqtt.Client:
        client = new_client(broker, client_id=f"delen-{self._appliance}", manual_ack=True)
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.reconnect_delay_set(min_delay=1, max_delay=30)
        status = self._topics.appliance_status(self._appliance)
        client.will_set(status, Status.OFFLINE.value, qos=1, retain=True)
        client.on_connect = self._connected
        client.on_connect_fail = self._connect_failed
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._received
        client.on_publish = self._published
        return client

    def open(self) -> None:
        """Starts to connect, and returns at once: it goes on trying for as long as it takes."""
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=KEEPALIVE_S,
            clean_start=False,
            properties=self._connect_properties,
        )
        self._client.loop_start()

    def close(self) -> None:
        """Waits for what is in flight to be acknowledged, says `stopped` and disconnects."""
        deadline_s = self._clock() + DRAIN_S
        while self.connected.is_set() and self.open_deliveries() and self._clock() < deadline_s:
            time.sleep(0.01)
        if self.connected.is_set():
            status = self._topics.appliance_status(self._appliance)
            self._client.publish(status, Status.STOPPED.value, qos=1, retain=True).wait_for_publish(
                DRAIN_S
            )
        self._client.disconnect()
        self._client.loop_stop()

    def drain(self) -> None:
        """Takes no more requests: the broker keeps those of QoS 1 for the next start."""
        self._draining = True

    def open_deliveries(self) -> int:
        """How many deliveries were received and not acknowledged yet."""
        with self._lock:
            return len(self._deliveries)

    def publish_reply(self, request: Request, reply: Reply) -> None:
        """Publishes a result or a rejection where the request wants it."""
        payload = REPLY.dump_json(reply)
        expires_s = request.expires_s
        properties = ReplyProperties(
            content_type="application/json",
            correlation=request.correlation,
            expiry_s=None if expires_s is None else max(1, math.ceil(expires_s - self._clock())),
            user=attributes_of(reply) if self._cloud_events else (),
        )
        if not self._fits(request.reply_topic, payload, properties.pack()):
            self._mark(request.delivery, Done.PUBLISHED)
            return
        self._publish(
            request.reply_topic,
            payload,
            qos=min(request.qos, 1),
            delivery=request.delivery,
            properties=properties,
        )

    def publish_policy_state(self, tenant: str, payload: bytes, *, delivery: int = 0) -> None:
        """Publishes what is in force for a tenant, retained; an empty payload clears it."""
        topic = self._topics.policy_state(tenant, self._appliance)
        if self._fits(topic, payload):
            self._publish(topic, payload, qos=1, delivery=delivery, retain=True)
        else:
            self._mark(delivery, Done.PUBLISHED)

    def publish_telemetry(self, topic: str, payload: bytes) -> None:
        """Publishes a reading that nobody needs later: lost where the broker is away."""
        if self.connected.is_set() and self._fits(topic, payload):
            self._publish(topic, payload, qos=0)

    def logged(self, delivery: int) -> None:
        """Notes that a delivery's outcome is safely in the store."""
        self._mark(delivery, Done.LOGGED)

    def settled(self, delivery: int) -> None:
        """Notes that a delivery needs neither a reply nor a row."""
        self._mark(delivery, Done.BOTH)

    def _fits(self, topic: str, payload: bytes, properties: bytes = b"") -> bool:
        """Whether the broker takes so large a packet; one that it does not is never sent.

        It would end the connection, and be sent again after every reconnect.
        """
        size = len(payload) + len(topic.encode()) + len(properties) + PACKET_OVERHEAD_BYTES
        if size > self._max_packet_bytes:
            _log.error("%d bytes for %s are over the broker's limit", len(payload), topic)
        return size <= self._max_packet_bytes

    def _publish(  # noqa: PLR0913 - a publish has this many parts
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        delivery: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        if not delivery:
            self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
            return
        with self._lock:
            self._publish_calls += 1
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        with self._lock:
            self._publish_calls -= 1
            # The broker can have it before publish returns: then on_publish has left its mark.
            if info.mid in self._published_early:
                self._deliveries.mark(delivery, Done.PUBLISHED)
                self._acknowledge()
            else:
                self._publishing[info.mid] = delivery
            if not self._publish_calls:
                self._published_early.clear()

    def _mark(self, delivery: int, done: Done) -> None:
        if not delivery:
            return
        with self._lock:
            self._deliveries.mark(delivery, done)
            self._acknowledge()

    def _acknowledge(self) -> None:
        # Under the lock, so that no two threads' acknowledgements change places.
        for packet_id in self._deliveries.take_acknowledgeable():
            self._client.ack(packet_id, 1)

    # What follows runs on paho's network thread, which dies of what is raised on it.

    def _connected(
        self,
        client: mqtt.Client,
        _userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.trouble = f"the broker refuses the connection: {reason}; check DELEN_MQTT_*"
            _log.error(self.trouble)
            return
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", math.inf)
        with self._lock:
            self._deliveries.connected(session_present=flags.session_present)
        live = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=2)
        kept = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=0)
        client.subscribe(
            [
                (self._topics.every_request(), live),
                (self._topics.every_policy_set(), kept),
                (self._topics.appliance_command(self._appliance), live),
            ]
        )

    def _connect_failed(self, _client: mqtt.Client, _userdata: object) -> None:
        # paho calls this while it handles the reason.
        reason = sys.exc_info()[1]
        self.trouble = f"the broker at {self._broker} cannot be reached ({reason}); trying again"
        _log.warning(self.trouble)

    def _subscribed(
        self,
        client: mqtt.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.trouble = f"the broker refuses a subscription: {', '.join(refused)}; check its ACL"
            _log.error(self.trouble)
            return
        status = self._topics.appliance_status(self._appliance)
        client.publish(status, Status.ONLINE.value, qos=1, retain=True)
        self.trouble = None
        self.connected.set()
        _log.info("online at %s", self._broker)

    def _disconnected(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        was_online = self.connected.is_set()
        self.connected.clear()
        with self._lock:
            self._deliveries.disconnected()
        if reason.is_failure and was_online:
            self.trouble = f"the connection to the broker is lost: {reason}; reconnecting"
            _log.warning(self.trouble)

    def _published(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        if reason.is_failure:
            _log.error("the broker refuses what is published: %s; check its ACL", reason)
        with self._lock:
            delivery = self._publishing.pop(mid, None)
            if delivery is not None:
                self._deliveries.mark(delivery, Done.PUBLISHED)
                self._acknowledge()
            elif self._publish_calls:
                self._published_early.add(mid)

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        received_s = self._clock()
        if self._draining and message.qos:
            return
        delivery = 0
        if message.qos:
            with self._lock:
                number = self._deliveries.receive(message.mid, duplicate=message.dup)
                self._acknowledge()
            if number is None:
                return
            delivery = number
        address = self._address(message)
        if address is None:
            _log.debug("passed by: %d bytes on a topic that is no tenant's", len(message.payload))
            self.settled(delivery)
        elif address.verb is Verb.REQUEST:
            self._on_request(self._arrival(address, message, received_s, delivery))
        elif address.verb is Verb.POLICY_SET:
            push = PolicyPush(
                tenant=address.tenant,
                document=bytes(message.payload),
                retained=message.retain,
                delivery=delivery,
            )
            self._on_policy(push)
        elif address.verb is Verb.COMMAND and address.tenant == self._appliance:
            self._on_command(CommandPush(payload=bytes(message.payload), delivery=delivery))
        else:
            self.settled(delivery)

    def _address(self, message: mqtt.MQTTMessage) -> Address | None:
        try:
            return self._topics.parse(message.topic)
        except UnicodeDecodeError:
            return None

    def _arrival(
        self, address: Address, message: mqtt.MQTTMessage, received_s: float, delivery: int
    ) -> Arrival:
        properties: Any = message.properties
        refusal = self._refusal(message)
        response_topic = getattr(properties, "ResponseTopic", None)
        try:
            reply_topic = self._topics.reply(address.tenant, address.stream, response_topic)
        except Rejected as error:
            refusal = error
            reply_topic = self._topics.result(address.tenant, address.stream)
        expiry_s = getattr(properties, "MessageExpiryInterval", None)
        request = Request(
            id=uuid.uuid4().hex,
            tenant=address.tenant,
            stream=address.stream,
            received_s=received_s,
            arrived_at_s=self._wall_clock(),
            reply_topic=reply_topic,
            correlation=getattr(properties, "CorrelationData", None),
            expires_s=None if expiry_s is None else received_s + expiry_s,
            qos=message.qos,
            delivery=delivery,
            packet_id=message.mid,
            redelivered=message.dup,
        )
        return Arrival(
            request=request,
            payload=message.payload,
            content_type=getattr(properties, "ContentType", None),
            refusal=refusal,
        )

    def _refusal(self, message: mqtt.MQTTMessage) -> Rejected | None:
        if message.retain:
            return Rejected(
                Code.MALFORMED,
                "a request must not be retained, or the broker repeats it: publish without retain",
            )
        if self._draining:
            return Rejected(Code.SHUTTING_DOWN, "the appliance is stopping; try again later")
        if len(message.payload) > self._max_frame_bytes:
            return Rejected(
                Code.TOO_LARGE,
                f"the frame has {len(message.payload)} bytes; at most {self._max_frame_bytes}"
                " are accepted (DELEN_MAX_FRAME)",
            )
        return None
