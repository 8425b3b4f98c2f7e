"""How the broker is reached: address, credentials, TLS, and sockets that do not wait."""

from __future__ import annotations

import hashlib
import logging
import math
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from appliance.errors import BrokerError
from appliance.settings import Settings

_log = logging.getLogger(__name__)

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


def new_client(
    broker: BrokerAddress,
    *,
    client_id: str,
    manual_ack: bool = False,
    max_packet_bytes: float = math.inf,
) -> mqtt.Client:
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
