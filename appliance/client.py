"""A client for applications and commands: frames out, replies in, over one MQTT 5 connection."""

from __future__ import annotations

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

from appliance.connection import BrokerAddress, new_client
from appliance.errors import BrokerError
from appliance.messages import REPLY, Reply
from appliance.topics import Topics

CONNECT_S = 10.0

Received = Callable[[str, bytes, bool], None]
"""Called with a topic, a payload, and whether the broker had retained it."""


class Client:
    """One tenant's or fleet manager's connection; entered it is connected, left it is closed.

    `infer` sends a frame and waits; `submit` sends it and gives a future. Replies are matched by
    correlation data, so that many may be on their way at a time. It reconnects by itself.
    """

    def __init__(self, broker: BrokerAddress, *, prefix: str = "delen/v1") -> None:
        self.topics = Topics(prefix)
        self._broker = broker
        self._name = f"delen-client-{uuid.uuid4().hex[:12]}"
        self._client = new_client(broker, client_id=self._name)
        self._client.on_connect = self._connected
        self._client.on_message = self._received
        self._client.on_subscribe = self._subscribed
        self._connection: Future[None] = Future()
        self._subscribing: dict[int, Future[None]] = {}
        self._watches: dict[str, Received] = {}
        self._replies: dict[bytes, Future[Reply]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._client.connect_async(self._broker.host, self._broker.port)
        self._client.loop_start()
        try:
            self._connection.result(CONNECT_S)
        except NotInTime:
            self._client.loop_stop()
            raise BrokerError(
                f"no broker answers at {self._broker}: is it running, and are DELEN_MQTT_HOST"
                " and DELEN_MQTT_PORT right?"
            ) from None
        except BrokerError:
            self._client.loop_stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def infer(
        self,
        tenant: str,
        frame: bytes,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = 10.0,
    ) -> Reply:
        """Sends a frame and waits for its result or rejection. Raises BrokerError at timeout."""
        reply = self.submit(tenant, frame, content_type=content_type, stream=stream)
        try:
            return reply.result(timeout_s)
        except NotInTime:
            raise BrokerError(
                f"no reply within {timeout_s:g} s: is an appliance online, and may"
                f" {self._broker.username or 'this user'} publish for the tenant {tenant}?"
            ) from None

    def submit(
        self,
        tenant: str,
        frame: bytes,
        *,
        content_type: str | None = None,
        stream: str | None = None,
    ) -> Future[Reply]:
        """Sends a frame with QoS 1 and gives its reply when there is one."""
        response_topic = self.topics.result(tenant, self._name)
        if response_topic not in self._watches:
            self.watch(response_topic, self._ignore)
        correlation = uuid.uuid4().bytes
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = response_topic
        properties.CorrelationData = correlation
        if content_type is not None:
            properties.ContentType = content_type
        reply: Future[Reply] = Future()
        with self._lock:
            self._replies[correlation] = reply
        topic = self.topics.request(tenant, stream)
        self._client.publish(topic, frame, qos=1, properties=properties)
        return reply

    def watch(self, topic_filter: str, received: Received) -> None:
        """Subscribes: `received` is called on the network thread.

        Raises BrokerError where the broker refuses.
        """
        self._watches[topic_filter] = received
        self._subscribe(topic_filter).result(CONNECT_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes with QoS 1 and waits until the broker has it. Raises BrokerError."""
        published = self._client.publish(topic, payload, qos=1, retain=retain)
        try:
            published.wait_for_publish(CONNECT_S)
        except RuntimeError as error:
            raise BrokerError(f"the broker at {self._broker} is gone: {error}") from error
        if not published.is_published():
            raise BrokerError(f"the broker at {self._broker} took no message for {CONNECT_S:g} s")

    def _subscribe(self, topic_filter: str) -> Future[None]:
        done: Future[None] = Future()
        with self._lock:
            _, mid = self._client.subscribe(topic_filter, qos=1)
            if mid is not None:
                self._subscribing[mid] = done
        return done

    @staticmethod
    def _ignore(_topic: str, _payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        """What comes without correlation data that is known here is somebody else's."""

    def _connected(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            if not self._connection.done():
                sentence = f"the broker at {self._broker} refuses the connection: {reason}"
                self._connection.set_exception(BrokerError(f"{sentence}; check DELEN_MQTT_*"))
            return
        for topic_filter in self._watches:
            self._subscribe(topic_filter)
        if not self._connection.done():
            self._connection.set_result(None)

    def _subscribed(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            done = self._subscribing.pop(mid, None)
        if done is None:
            return
        if reasons[0].is_failure:
            done.set_exception(BrokerError(f"the broker refuses the subscription: {reasons[0]}"))
        else:
            done.set_result(None)

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        with self._lock:
            reply = self._replies.pop(correlation, None) if correlation else None
        if reply is not None:
            reply.set_result(REPLY.validate_json(bytes(message.payload)))
            return
        for topic_filter, received in self._watches.items():
            if mqtt.topic_matches_sub(topic_filter, message.topic):
                received(message.topic, bytes(message.payload), message.retain)
