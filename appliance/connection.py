"""A connection to the broker: where that is, as whom to speak to it, and how the two stand."""

from __future__ import annotations

import hashlib
import logging
import math
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from appliance.errors import BrokerError
from appliance.settings import Settings
from appliance.takeovers import Takeovers

_log = logging.getLogger(__name__)

MAX_PACKET_BYTES = 268_435_455
"""MQTT 5, 1.5.5: what a packet's length can say."""

PACKET_OVERHEAD_BYTES = 64
"""What the fixed header, the lengths and the identifiers add to a packet at most."""

SESSION_TAKEN_OVER = 0x8E
"""MQTT 5, 3.14.2.1: why a broker ends a connection whose client id another client has given."""

_CLIENT_ID_DIGITS = 16
_CLIENT_ID_ITERATIONS = 100_000
"""So that who reads a client id in the broker's log does not find a weak password by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerAddress:
    """Where the broker is, and as whom to speak to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> BrokerAddress:
        """The broker that the settings name. Raises SettingsError for an unreadable password."""
        return cls(
            host=settings.mqtt_host,
            port=settings.mqtt_port,
            username=settings.mqtt_username,
            password=settings.password(),
            tls_ca=settings.mqtt_tls_ca,
            tls_cert=settings.mqtt_tls_cert,
            tls_key=settings.mqtt_tls_key,
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def client_id(self, name: str) -> str:
        """The client id of a lasting session: the same after a restart, and nobody else's guess.

        Whoever knows it could take the session over, and have the broker drop what it keeps for
        it. Raises BrokerError where the key cannot be read.
        """
        secret = (self.password or "").encode()
        if self.tls_key is not None:
            try:
                secret += self.tls_key.read_bytes()
            except OSError as error:
                raise BrokerError(f"DELEN_MQTT_TLS_KEY cannot be read: {error}") from error
        if not secret:
            return name
        mark = hashlib.pbkdf2_hmac("sha256", secret, name.encode(), _CLIENT_ID_ITERATIONS)
        return f"{name}-{mark.hex()[:_CLIENT_ID_DIGITS]}"


class _Client(mqtt.Client):
    """paho's client, which would take in a packet of any size that a broker says is to come."""

    max_packet_bytes: float = math.inf

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        outcome = super().loop_read(max_packets)
        coming_bytes = self._in_packet["remaining_length"]
        if coming_bytes <= self.max_packet_bytes:
            return outcome
        _log.error("the broker sends a packet of %d bytes: the connection is ended", coming_bytes)
        return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)

    def close_sockets(self) -> None:
        """What paho does when the client is collected, and that may be late."""
        self._reset_sockets()


def _nobody(*_: object) -> None:
    """Whom it is told that nobody listens to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """Who hears of a connection, on its network thread, which dies of what is raised there."""

    accepted: Callable[[bool], None] = _nobody
    """The broker takes the connection; whether it still has the session that was there before."""
    refused: Callable[[str], None] = _nobody
    """The broker does not, as the sentence says."""
    lost: Callable[[str], None] = _nobody
    """The broker cannot be reached, or not any more, as the sentence says."""
    received: Callable[[mqtt.MQTTMessage], None] = _nobody
    subscribed: Callable[[int, Sequence[ReasonCode]], None] = _nobody
    """The broker's reasons for a packet with subscriptions, one for each."""
    published: Callable[[int, ReasonCode], None] = _nobody
    """The broker has a message of QoS 1, or refuses it; one of QoS 0 was sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What is agreed with a broker, and how long it is before a connection is tried again."""

    keepalive_s: int = 60
    resumes: bool = False
    """Whether it goes on with the session of a process that ended."""
    session_expiry_s: int = 0
    """How long the broker keeps the session where the connection breaks."""
    receive_maximum: int | None = None
    max_packet_bytes: int | None = None
    """The broker may not send larger ones; one that does so all the same loses the connection."""
    manual_ack: bool = False
    first_retry_s: int = 1
    last_retry_s: int = 30

    def properties(self) -> Properties:
        """Those of the CONNECT packet."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self.session_expiry_s
        if self.receive_maximum is not None:
            properties.ReceiveMaximum = self.receive_maximum
        if self.max_packet_bytes is not None:
            properties.MaximumPacketSize = self.max_packet_bytes
        return properties


class Connection:
    """A connection to the broker that makes itself again for ever, from `open` until `close`.

    Its `client` is paho's, to publish and to subscribe with. Raises BrokerError where a
    certificate is no good.
    """

    def __init__(
        self, broker: BrokerAddress, *, client_id: str, listener: Listener, terms: Terms
    ) -> None:
        self.client = new_client(
            broker,
            client_id=client_id,
            manual_ack=terms.manual_ack,
            max_packet_bytes=terms.max_packet_bytes or math.inf,
        )
        self.max_sent_bytes: float = MAX_PACKET_BYTES
        """How large a packet the broker takes."""
        self._broker = broker
        self._listener = listener
        self._terms = terms
        self._is_up = False
        self._closing = False
        self._up_since_s = 0.0
        self._takeovers = Takeovers(terms.first_retry_s)
        self.client.reconnect_delay_set(terms.first_retry_s, terms.last_retry_s)
        self.client.on_connect = self._connected
        self.client.on_connect_fail = self._connect_failed
        self.client.on_disconnect = self._disconnected
        self.client.on_message = self._received
        self.client.on_subscribe = self._subscribed
        self.client.on_publish = self._published

    def open(self) -> None:
        """Starts to connect, and returns at once."""
        self.client.connect_async(
            self._broker.host,
            self._broker.port,
            keepalive=self._terms.keepalive_s,
            clean_start=False if self._terms.resumes else MQTT_CLEAN_START_FIRST_ONLY,
            properties=self._terms.properties(),
        )
        self.client.loop_start()

    def close(self, *, session_expiry_s: int | None = None) -> None:
        """Disconnects, and nobody hears of it any more; a second time does nothing.

        The broker keeps the session for so long, or as was agreed.
        """
        self._closing = True
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        if session_expiry_s is not None:
            properties.SessionExpiryInterval = session_expiry_s
        client = self.client
        client.disconnect(properties=properties)
        client.loop_stop()
        client.close_sockets()
        self._listener = Listener()

    def takes(self, size_bytes: int) -> bool:
        """Whether the broker takes a packet with so much in it.

        One that it does not take would end the connection, and be sent again after that.
        """
        return size_bytes + PACKET_OVERHEAD_BYTES <= self.max_sent_bytes

    def takeovers(self) -> int:
        """How often of late another client seems to have taken the session over."""
        return self._takeovers.count(time.monotonic())

    # What follows is called by paho's network thread.

    def _connected(
        self,
        _client: mqtt.Client,
        _userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._listener.refused(f"the broker at {self._broker} refuses the connection: {reason}")
            return
        self._is_up, self._up_since_s = True, time.monotonic()
        self.max_sent_bytes = getattr(properties, "MaximumPacketSize", MAX_PACKET_BYTES)
        self._listener.accepted(flags.session_present)

    def _connect_failed(self, _client: mqtt.Client, _userdata: object) -> None:
        # paho calls this while it handles the reason.
        reason = sys.exc_info()[1]
        self._listener.lost(f"the broker at {self._broker} cannot be reached ({reason})")

    def _disconnected(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        was_up, self._is_up = self._is_up, False
        if was_up and not self._closing:
            self._choose_retry(reason)
            sentence = f"the connection to the broker at {self._broker} is lost: {reason}"
            self._listener.lost(sentence)

    def _choose_retry(self, reason: ReasonCode) -> None:
        now_s = time.monotonic()
        self._takeovers.ended(
            now_s,
            lasted_s=now_s - self._up_since_s,
            is_told=reason.value == SESSION_TAKEN_OVER,
        )
        first_s = self._takeovers.retry_s(now_s)
        self.client.reconnect_delay_set(first_s, max(first_s, self._terms.last_retry_s))

    def _received(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        self._listener.received(message)

    def _subscribed(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._listener.subscribed(mid, reasons)

    def _published(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._listener.published(mid, reason)


def new_client(
    broker: BrokerAddress,
    *,
    client_id: str,
    manual_ack: bool = False,
    max_packet_bytes: float = math.inf,
) -> _Client:
    """An MQTT 5 client, not connected yet. Raises BrokerError where a certificate is no good.

    A broker that sends a larger packet than allowed loses the connection.
    """
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=mqtt.MQTTv5,
        manual_ack=manual_ack,
    )
    client.max_packet_bytes = max_packet_bytes
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    if broker.tls_ca is not None:
        client.tls_set_context(_tls(broker.tls_ca, broker.tls_cert, broker.tls_key))
    client.on_socket_open = _disable_nagle
    return client


def _tls(ca: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise BrokerError(
            f"the broker's CA {ca} cannot be read (DELEN_MQTT_TLS_CA): {error}"
        ) from error
    if certificate is not None:
        try:
            # An empty password, since OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, password="")  # nosec B106
        except (OSError, ssl.SSLError) as error:
            raise BrokerError(
                f"the certificate {certificate} with the key {key} cannot be used"
                f" (DELEN_MQTT_TLS_CERT, DELEN_MQTT_TLS_KEY; the key unencrypted): {error}"
            ) from error
    return context


def _disable_nagle(_client: mqtt.Client, _userdata: object, sock: Any) -> None:
    # Nagle's algorithm with delayed acknowledgements costs about 44 ms a round trip.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
