"""One MQTT 5 connection of a program that talks to appliances: it asks, watches and publishes."""

from __future__ import annotations

import logging
import math
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from types import TracebackType

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from appliance.acknowledgements import Acknowledgements
from appliance.connection import BrokerAddress, new_client
from appliance.errors import BrokerError, NoReply
from appliance.messages import Reply
from appliance.questions import Question, Questions
from appliance.topics import Topics

_log = logging.getLogger(__name__)

CONNECT_S = 10.0

SESSION_EXPIRY_S = 300
"""How long the broker keeps replies for a session whose connection broke."""

ASK_AGAIN_S = 1.0
"""When a request that no appliance was there to hear is published again."""

PACKET_OVERHEAD_BYTES = 64
"""What the fixed header, the lengths and the identifiers add to a packet at most."""

NO_MATCHING_SUBSCRIBERS = 0x10
"""MQTT 5, 3.4.2.1: nobody has subscribed to the topic at the moment."""

Received = Callable[[str, bytes, bool], None]
"""Called with a topic, a payload, and whether the broker had retained it."""


class Session:
    """Entered it is connected, left it is closed. May be used from several threads.

    `infer` sends a frame and waits; `submit` sends it and gives a future. Replies are matched by
    correlation data, so that many may be on their way at a time. It reconnects by itself for
    ever, and where the broker has forgotten the session meanwhile, what has no reply yet is
    published again: the appliance knows it by its correlation data, and runs it once.
    """

    def __init__(self, broker: BrokerAddress, *, prefix: str = "delen/v1") -> None:
        self.topics = Topics(prefix)
        self.trouble: str | None = f"the broker at {broker} has not answered yet"
        """Why nothing can be sent at the moment."""
        self._broker = broker
        self._name = f"delen-client-{uuid.uuid4().hex[:12]}"
        self._max_packet_bytes = math.inf
        self._acknowledgements = Acknowledgements()
        self._hearing: set[str] = set()
        self._hearing_lock = threading.Lock()
        self._questions = Questions()
        # The lock guards the three fields below it; whoever holds it neither waits nor publishes.
        self._lock = threading.Lock()
        self._connection: Future[None] = Future()
        self._watches: dict[str, Received] = {}
        self._timer: threading.Timer | None = None
        self._client = self._new_client(broker)

    def _new_client(self, broker: BrokerAddress) -> mqtt.Client:
        client = new_client(broker, client_id=self._name)
        client.reconnect_delay_set(min_delay=1, max_delay=30)
        client.on_connect = self._connected
        client.on_connect_fail = self._connect_failed
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        return client

    def __enter__(self) -> Self:
        self._connect()
        return self

    def open(self, tenant: str) -> None:
        """Connects, ready for the replies to a tenant. Raises BrokerError, and is closed then."""
        self._connect()
        try:
            self._hear(tenant)
        except BrokerError:
            self.close()
            raise

    def _connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self._client.connect_async(self._broker.host, self._broker.port, properties=properties)
        self._client.loop_start()
        try:
            self._connection.result(CONNECT_S)
        except NotInTime:
            self.close()
            raise BrokerError(
                f"no broker answers at {self._broker}: is it running, and are DELEN_MQTT_HOST"
                f" and DELEN_MQTT_PORT right? ({self.trouble})"
            ) from None
        except BrokerError:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects; whoever waits for a reply gets a BrokerError. A second time does nothing."""
        closed = BrokerError("the client was closed before the broker answered")
        self._connection_is(closed)
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._questions.fail_all(closed)
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_stop()
        # They refer to this session: together with it they would keep paho's sockets open until
        # the garbage is collected, where a process has many clients one after the other.
        self._client.on_connect = self._client.on_connect_fail = self._client.on_disconnect = None
        self._client.on_message = self._client.on_subscribe = self._client.on_publish = None

    def infer(
        self,
        tenant: str,
        frame: bytes,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = 10.0,
    ) -> Reply:
        """Sends a frame and waits for its result or rejection. Raises NoReply and BrokerError."""
        reply = self.submit(tenant, frame, content_type=content_type, stream=stream)
        try:
            return reply.result(timeout_s)
        except NotInTime:
            raise self.no_reply(tenant, timeout_s) from None
        finally:
            reply.cancel()

    def submit(
        self,
        tenant: str,
        frame: bytes,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        expiry_s: int | None = None,
    ) -> Future[Reply]:
        """Sends a frame with QoS 1 and gives its reply when there is one.

        After `expiry_s` nobody wants the reply any more, which the appliance is told.
        Whoever gives up waiting cancels the future; until then the frame is kept. The future
        raises BrokerError where the broker refuses the frame, as does this where it is too large.
        """
        topic = self.topics.request(tenant, stream)
        if len(frame) + len(topic.encode()) * 2 + PACKET_OVERHEAD_BYTES > self._max_packet_bytes:
            raise BrokerError(
                f"the frame has {len(frame)} bytes, and the broker at {self._broker} takes packets"
                f" of at most {self._max_packet_bytes:.0f}: send a smaller one"
            )
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = self._hear(tenant)
        if content_type is not None:
            properties.ContentType = content_type
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        question = Question(topic=topic, frame=frame, properties=properties)
        properties.CorrelationData = question.correlation
        self._questions.add(question)
        self._ask(question)
        return question.reply

    @property
    def in_flight(self) -> int:
        """How many frames have no reply yet."""
        return len(self._questions)

    def no_reply(self, tenant: str, timeout_s: float) -> NoReply:
        """The error of a frame whose reply has not come in time."""
        if self.trouble is not None:
            return NoReply(f"no reply within {timeout_s:g} s: {self.trouble}")
        who = self._broker.username or "this user"
        return NoReply(
            f"no reply within {timeout_s:g} s: is an appliance online, and may {who} publish for"
            f" the tenant {tenant}?"
        )

    def watch(self, topic_filter: str, received: Received) -> None:
        """Subscribes: `received` is called on the network thread.

        Raises BrokerError where the broker refuses.
        """
        with self._lock:
            self._watches[topic_filter] = received
        done: Future[None] = Future()
        self._subscribe(topic_filter, done)
        try:
            done.result(CONNECT_S)
        except NotInTime:
            raise BrokerError(
                f"the broker at {self._broker} took no subscription for {CONNECT_S:g} s"
            ) from None

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes with QoS 1 and waits until the broker has it. Raises BrokerError."""
        published: Future[ReasonCode] = Future()
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        self._acknowledgements.expect(info.mid, published.set_result)
        try:
            reason = published.result(CONNECT_S)
        except NotInTime:
            trouble = "" if self.trouble is None else f": {self.trouble}"
            raise BrokerError(
                f"the broker at {self._broker} took no message for {CONNECT_S:g} s{trouble}"
            ) from None
        if reason.is_failure:
            raise BrokerError(f"the broker refuses what is published to {topic}: {reason}")

    def _hear(self, tenant: str) -> str:
        """The topic of replies to this session, which is subscribed to from the first time on."""
        topic = self.topics.result(tenant, self._name)
        with self._hearing_lock:
            if topic not in self._hearing:
                self.watch(topic, _pass_by)
                self._hearing.add(topic)
        return topic

    def _ask(self, question: Question) -> None:
        self._questions.asked(question)
        info = self._client.publish(
            question.topic, question.frame, qos=1, properties=question.properties
        )
        self._acknowledgements.expect(info.mid, lambda reason: self._taken(question, reason))

    def _taken(self, question: Question, reason: ReasonCode) -> None:
        if reason.is_failure:
            who = self._broker.username or "this user"
            sentence = f"the broker refuses the frame: {reason}; may {who} publish for this tenant?"
            self._questions.fail(question, BrokerError(sentence))
            return
        heard = reason.value != NO_MATCHING_SUBSCRIBERS
        self._questions.taken(question, heard=heard)
        if not heard:
            self._ask_later()

    def _ask_later(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(ASK_AGAIN_S, self._ask_again)
                self._timer.name, self._timer.daemon = f"{self._name}-again", True
                self._timer.start()

    def _ask_again(self) -> None:
        with self._lock:
            self._timer = None
        for question in self._questions.unheard():
            self._ask(question)

    def _subscribe(self, topic_filter: str, done: Future[None] | None = None) -> None:
        def said(reason: ReasonCode) -> None:
            if reason.is_failure:
                _log.error("the broker refuses the subscription to %s: %s", topic_filter, reason)
            if done is None:
                return
            if reason.is_failure:
                done.set_exception(BrokerError(f"the broker refuses the subscription: {reason}"))
            else:
                done.set_result(None)

        _, packet_id = self._client.subscribe(topic_filter, qos=1)
        if packet_id is not None:
            self._acknowledgements.expect(packet_id, said)
        elif done is not None:
            done.set_exception(BrokerError(f"nothing can be subscribed to now: {self.trouble}"))

    # What follows runs on paho's network thread, which dies of what is raised on it.

    def _connected(
        self,
        _client: mqtt.Client,
        _userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.trouble = f"the broker at {self._broker} refuses the connection: {reason}"
            self._connection_is(BrokerError(f"{self.trouble}; check DELEN_MQTT_*"))
            return
        self.trouble = None
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", math.inf)
        if not flags.session_present:
            with self._lock:
                watched = list(self._watches)
            for topic_filter in watched:
                self._subscribe(topic_filter)
            for question in self._questions.forgotten_by_broker():
                self._ask(question)
        self._connection_is(None)

    def _connection_is(self, error: BrokerError | None) -> None:
        """Says how the first connection went, unless it was said before."""
        with self._lock:
            if self._connection.done():
                return
            if error is None:
                self._connection.set_result(None)
            else:
                self._connection.set_exception(error)

    def _connect_failed(self, _client: mqtt.Client, _userdata: object) -> None:
        # paho calls this while it handles the reason.
        self.trouble = f"the broker at {self._broker} cannot be reached ({sys.exc_info()[1]})"

    def _disconnected(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self.trouble is None:
            self.trouble = f"the connection to the broker at {self._broker} is lost: {reason}"

    def _subscribed(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._acknowledgements.came(mid, reasons[0])

    def _published(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._acknowledgements.came(mid, reason)

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        correlation = getattr(message.properties, "CorrelationData", None)
        if correlation and self._questions.answer(correlation, payload):
            return
        with self._lock:
            watches = list(self._watches.items())
        for topic_filter, received in watches:
            if mqtt.topic_matches_sub(topic_filter, message.topic):
                try:
                    received(message.topic, payload, message.retain)
                except Exception:  # noqa: BLE001 - the others' connection must not end of it
                    _log.exception("what came on %s could not be dealt with", message.topic)


def _pass_by(_topic: str, _payload: bytes, _retained: bool) -> None:  # noqa: FBT001
    """What comes without correlation data that is known here is somebody else's."""
