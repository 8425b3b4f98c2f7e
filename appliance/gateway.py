"""MQTT in and out: the one connection to the broker."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.arrivals import Arrivals, Reception
from appliance.cloud_events import attributes_of
from appliance.connection import (
    PACKET_OVERHEAD_BYTES,
    BrokerAddress,
    Connection,
    Listener,
    Terms,
)
from appliance.deliveries import Deliveries, Done
from appliance.document import MAX_CHARACTERS
from appliance.messages import REPLY, Arrival, CommandPush, PolicyPush, Reply, Request, Status
from appliance.outgoing import Outgoing
from appliance.reply_properties import ReplyProperties
from appliance.topics import Topics, Verb

_log = logging.getLogger(__name__)

MAX_INFLIGHT = 20
"""Replies on their way at a time; paho ignores the broker's Receive Maximum, so it is low."""

PACKET_BYTES_BEYOND = 1_000_000
"""How much longer a packet may be than two frames of the largest size: so that a frame over the
limit is still rejected with a word. What is beyond is the broker's to drop."""

KEEPALIVE_S = 30

DRAIN_S = 5.0
"""How long a stop waits for the broker to take what is in flight."""


class Gateway:
    """Hands over what arrives, publishes replies, and acknowledges a request once both its reply
    is with the broker and its row is in the log.

    `on_request`, `on_policy` and `on_command` are called on paho's network thread, which they must
    not hold up, and `on_trouble` where `trouble` has changed: the broker is told that the appliance
    is online only after it. It reconnects by itself for ever; the broker keeps the session, its
    subscriptions and the unacknowledged requests meanwhile.
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
        on_trouble: Callable[[], None] = lambda: None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        max_frame_bytes: int,
        receive_maximum: int,
        session_expiry_s: int,
        cloud_events: bool,
        keepalive_s: int = KEEPALIVE_S,
        first_retry_s: int = 1,
    ) -> None:
        self._topics = topics
        self._every_request = topics.every_request()
        self._appliance = appliance
        self._on_request = on_request
        self._on_policy = on_policy
        self._on_command = on_command
        self._on_trouble = on_trouble
        self._clock = clock
        self._wall_clock = wall_clock
        self._arrivals = Arrivals(topics=topics, max_frame_bytes=max_frame_bytes)
        self._cloud_events = cloud_events
        self._draining = False
        self.connected = threading.Event()
        self._trouble: str | None = f"the broker at {broker} has not answered yet"
        # The lock guards the two fields below it; whoever holds it neither waits nor publishes.
        self._lock = threading.Lock()
        self._deliveries = Deliveries()
        self._outgoing = Outgoing()
        self._broker = broker
        self._connection = Connection(
            broker,
            client_id=broker.client_id(f"delen-{appliance}"),
            listener=Listener(
                accepted=self._accepted,
                refused=self._refused,
                lost=self._lost,
                received=self._received,
                subscribed=self._subscribed,
                published=self._published,
            ),
            terms=Terms(
                keepalive_s=keepalive_s,
                resumes=True,
                session_expiry_s=session_expiry_s,
                receive_maximum=receive_maximum,
                max_packet_bytes=2 * max_frame_bytes + PACKET_BYTES_BEYOND,
                manual_ack=True,
                first_retry_s=first_retry_s,
            ),
        )
        self._client = self._connection.client
        self._client.max_inflight_messages_set(MAX_INFLIGHT)
        status = topics.appliance_status(appliance)
        self._client.will_set(status, Status.OFFLINE.value, qos=1, retain=True)

    def open(self) -> None:
        """Starts to connect, and returns at once: it goes on trying for as long as it takes."""
        self._connection.open()

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
        self._connection.close()
        self.connected.clear()

    def drain(self) -> None:
        """Takes no more requests: the broker keeps those of QoS 1 for the next start."""
        self._draining = True

    def open_deliveries(self) -> int:
        """How many deliveries were received and not acknowledged yet."""
        with self._lock:
            return len(self._deliveries)

    @property
    def trouble(self) -> str | None:
        """How it stands with the broker, where that is not well."""
        return "; ".join(filter(None, (self._trouble, self.id_conflict))) or None

    @property
    def id_conflict(self) -> str | None:
        """What to do where another client seems to go by this one's id; None for nothing.

        It says so for some minutes after the last time, also while the connection stands.
        """
        times = self._connection.takeovers()
        if not times:
            return None
        return (
            "another client seems to take the session at the broker over"
            f" ({times} time{'s' * (times > 1)} of late): where there is a second appliance of the"
            f" id {self._appliance}, give each a DELEN_APPLIANCE_ID of its own"
        )

    @property
    def unsent(self) -> int:
        """How many messages of QoS 0 were dropped, since the broker did not read."""
        return self._outgoing.unsent

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
        """Whether the broker takes so large a packet; one that it does not is never sent."""
        fits = self._connection.takes(len(payload) + len(topic.encode()) + len(properties))
        if not fits:
            _log.error("%d bytes for %s are over the broker's limit", len(payload), topic)
        return fits

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
        size_bytes = len(payload) + PACKET_OVERHEAD_BYTES
        with self._lock:
            if not self._outgoing.may_begin(size_bytes, qos=qos):
                return
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        with self._lock:
            # The broker can have it before publish returns: then on_publish was called already.
            published = self._outgoing.handed_over(info.mid, size_bytes, qos=qos, delivery=delivery)
            self._note_published(published)

    def _note_published(self, delivery: int) -> None:
        if delivery:
            self._deliveries.mark(delivery, Done.PUBLISHED)
            self._acknowledge()

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

    def _accepted(self, session_present: bool) -> None:  # noqa: FBT001 - it is told this alone
        with self._lock:
            self._deliveries.connected(session_present=session_present)
            # Of QoS 0, what was handed over meanwhile went nowhere.
            self._outgoing.disconnected()
        live = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=2)
        kept = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=0)
        self._client.subscribe(
            [
                (self._every_request, live),
                (self._topics.every_policy_set(), kept),
                (self._topics.appliance_command(self._appliance), live),
            ]
        )

    def _refused(self, sentence: str) -> None:
        self._has(f"{sentence}; check DELEN_MQTT_*")
        _log.error(self.trouble)

    def _subscribed(self, _mid: int, reasons: Sequence[ReasonCode]) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._has(f"the broker refuses a subscription: {', '.join(refused)}; check its ACL")
            _log.error(self.trouble)
            return
        self._has(None)
        status = self._topics.appliance_status(self._appliance)
        self._client.publish(status, Status.ONLINE.value, qos=1, retain=True)
        self.connected.set()
        _log.info("online at %s", self._broker)

    def _lost(self, sentence: str) -> None:
        self.connected.clear()
        with self._lock:
            self._deliveries.disconnected()
            self._outgoing.disconnected()
        self._has(f"{sentence}; trying again")
        _log.warning(self.trouble)

    def _has(self, trouble: str | None) -> None:
        self._trouble = trouble
        self._on_trouble()

    def _published(self, mid: int, reason: ReasonCode) -> None:
        if reason.is_failure:
            _log.error("the broker refuses what is published: %s; check its ACL", reason)
        with self._lock:
            self._note_published(self._outgoing.sent(mid))

    def _received(self, message: mqtt.MQTTMessage) -> None:
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
        try:
            self._hand_over(message, received_s, delivery)
        except Exception:  # noqa: BLE001 - it is logged, and the message must not come again
            _log.exception("a message on %r could not be taken in", message.topic)
            self.settled(delivery)

    def _hand_over(self, message: mqtt.MQTTMessage, received_s: float, delivery: int) -> None:
        topic = _topic_of(message)
        address = self._topics.parse(topic)
        is_cleared = message.retain and self._clear_retained(topic, message)
        if address is None:
            _log.debug("passed by: %d bytes on a topic that is no tenant's", len(message.payload))
        if address is None or is_cleared:
            self.settled(delivery)
        elif address.verb is Verb.REQUEST:
            reception = Reception(
                received_s=received_s,
                arrived_at_s=self._wall_clock(),
                delivery=delivery,
                draining=self._draining,
            )
            self._on_request(self._arrivals.read(address, message, reception))
        elif address.verb is Verb.POLICY_SET:
            push = PolicyPush(
                tenant=address.tenant,
                document=_bounded(message.payload),
                retained=message.retain,
                delivery=delivery,
            )
            self._on_policy(push)
        elif address.verb is Verb.COMMAND and address.tenant == self._appliance:
            self._on_command(CommandPush(payload=_bounded(message.payload), delivery=delivery))
        else:
            self.settled(delivery)

    def _clear_retained(self, topic: str, message: mqtt.MQTTMessage) -> bool:
        """Has the broker forget a request that it retains; whether it was told so already.

        A sensor could fill the broker's memory with one on every stream that it can think of.
        """
        if not mqtt.topic_matches_sub(self._every_request, topic):
            return False
        if message.payload:
            self._publish(topic, b"", qos=0, retain=True)
        return not message.payload


def _topic_of(message: mqtt.MQTTMessage) -> str:
    """Where it was published; empty, which is nobody's, where that is no text."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""


def _bounded(document: bytes | bytearray) -> bytes:
    """A document that is not kept longer than what is refused for its length anyway."""
    return bytes(document[: MAX_CHARACTERS + 1])
