"""One MQTT 5 connection of a program that talks to appliances: it asks, watches and publishes."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from appliance.acknowledgements import Acknowledgements
from appliance.connection import BrokerAddress, Connection, Listener, Terms
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
        self._acknowledgements = Acknowledgements()
        self._hearing: set[str] = set()
        self._hearing_lock = threading.Lock()
        self._questions = Questions()
        # The lock guards the three fields below it; whoever holds it neither waits nor publishes.
        self._lock = threading.Lock()
        self._first: Future[None] = Future()
        """How the first attempt to connect went."""
        self._watches: dict[str, Received] = {}
        self._timer: threading.Timer | None = None
        self._connection = Connection(
            broker,
            client_id=self._name,
            listener=Listener(
                accepted=self._accepted,
                refused=self._refused,
                lost=self._lost,
                received=self._received,
                subscribed=self._subscribed,
                published=self._acknowledgements.came,
            ),
            terms=Terms(session_expiry_s=SESSION_EXPIRY_S),
        )
        self._client = self._connection.client

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
        self._connection.open()
        try:
            self._first.result(CONNECT_S)
        except NotInTime:
            self.close()
            raise BrokerError(
                f"no broker answers at {self._broker}: is it running, and are DELEN_MQTT_HOST"
                f" and DELEN_MQTT_PORT right? ({self.trouble})"
            ) from None
        except BrokerError:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects; whoever waits for a reply gets a BrokerError. A second time does nothing."""
        closed = BrokerError("the client was closed before the broker answered")
        self._first_went(closed)
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._questions.fail_all(closed)
        self._connection.close(session_expiry_s=0)

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
        if not self._connection.takes(len(frame) + len(topic.encode()) * 2):
            raise BrokerError(
                f"the frame has {len(frame)} bytes, and the broker at {self._broker} takes packets"
                f" of at most {self._connection.max_sent_bytes:.0f}: send a smaller one"
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
            f" the tenant {tenant}? A frame far over DELEN_MAX_FRAME has no reply either, nor have"
            " rejections beyond DELEN_REJECTION_RATE a second"
        )

    def watch(self, topic_filter: str, received: Received) -> None:
        """Subscribes: `received` is called on the network thread.

        Raises BrokerError where the broker refuses, and ValueError for what is no filter; neither
        is asked for again when the connection was lost.
        """
        with self._lock:
            self._watches[topic_filter] = received
        done: Future[None] = Future()
        try:
            self._subscribe(topic_filter, done)
            done.result(CONNECT_S)
        except BaseException as error:
            with self._lock:
                self._watches.pop(topic_filter, None)
            if isinstance(error, NotInTime):
                raise BrokerError(
                    f"the broker at {self._broker} took no subscription for {CONNECT_S:g} s"
                ) from None
            raise

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

    def _accepted(self, session_present: bool) -> None:  # noqa: FBT001 - it is told this alone
        self.trouble = None
        if not session_present:
            with self._lock:
                watched = list(self._watches)
            for topic_filter in watched:
                self._subscribe(topic_filter)
            for question in self._questions.forgotten_by_broker():
                self._ask(question)
        self._first_went(None)

    def _refused(self, sentence: str) -> None:
        self.trouble = sentence
        self._first_went(BrokerError(f"{sentence}; check DELEN_MQTT_*"))

    def _lost(self, sentence: str) -> None:
        self.trouble = sentence

    def _first_went(self, error: BrokerError | None) -> None:
        """Says how the first attempt went, unless it was said before."""
        with self._lock:
            if self._first.done():
                return
            if error is None:
                self._first.set_result(None)
            else:
                self._first.set_exception(error)

    def _subscribed(self, mid: int, reasons: Sequence[ReasonCode]) -> None:
        self._acknowledgements.came(mid, reasons[0])

    def _received(self, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        correlation = getattr(message.properties, "CorrelationData", None)
        if correlation and self._questions.answer(correlation, payload):
            return
        with self._lock:
            watches = list(self._watches.items())
        for topic_filter, received in watches:
            if _matches(topic_filter, message.topic):
                try:
                    received(message.topic, payload, message.retain)
                except Exception:  # noqa: BLE001 - the others' connection must not end of it
                    _log.exception("what came on %s could not be dealt with", message.topic)


def _matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic is one of a filter's, which names a group where it is shared (MQTT 5, 4.8.2).

    The broker sends it to one of the group, under the topic that it was published to.
    """
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[-1]
    return mqtt.topic_matches_sub(topic_filter, topic)


def _pass_by(_topic: str, _payload: bytes, _retained: bool) -> None:  # noqa: FBT001
    """What comes without correlation data that is known here is somebody else's."""
