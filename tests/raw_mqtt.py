"""MQTT byte by byte: what no library would send, as a client and as a broker."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable

from typing_extensions import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x90
PINGREQ, DISCONNECT = 0xC0, 0xE0

WAIT_S = 10.0


def packet(first_byte: int, body: bytes) -> bytes:
    """A packet with its fixed header."""
    return bytes([first_byte]) + variable_length(len(body)) + body


def variable_length(number: int) -> bytes:
    """MQTT 5, 1.5.5: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while True:
        number, low = divmod(number, 128)
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def text(value: str | bytes) -> bytes:
    """A string or binary data with its length before it."""
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(data)) + data


def publish(
    topic: str | bytes,
    payload: bytes,
    *,
    qos: int = 0,
    retain: bool = False,
    duplicate: bool = False,
    packet_id: int = 1,
    properties: bytes | None = b"",
) -> bytes:
    """A PUBLISH; without `properties` one of MQTT 3.1.1."""
    flags = (duplicate << 3) | (qos << 1) | retain
    number = struct.pack(">H", packet_id) if qos else b""
    extra = b"" if properties is None else variable_length(len(properties)) + properties
    return packet(PUBLISH | flags, text(topic) + number + extra + payload)


def response_topic(topic: str | bytes) -> bytes:
    return b"\x08" + text(topic)


def correlation(data: bytes) -> bytes:
    return b"\x09" + text(data)


def user_property(name: str, value: str) -> bytes:
    return b"\x26" + text(name) + text(value)


def content_type(name: str) -> bytes:
    return b"\x03" + text(name)


def expiry(seconds: int) -> bytes:
    return struct.pack(">BI", 0x02, seconds)


def payload_is_utf8() -> bytes:
    return b"\x01\x01"


def topic_alias(alias: int) -> bytes:
    return struct.pack(">BH", 0x23, alias)


class RawClient:
    """A connection to a broker on which anything may be sent."""

    def __init__(self, host: str, port: int, *, level: int = 5, client_id: str = "raw") -> None:
        self._socket = socket.create_connection((host, port), timeout=WAIT_S)
        no_properties = b"\x00" if level == 5 else b""
        header = text("MQTT") + bytes([level, 0x02]) + struct.pack(">H", 60) + no_properties
        self.send(packet(CONNECT, header + text(client_id)))
        self.read()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> bytes:
        """The next packet, of less than 128 bytes; OSError where the connection is closed."""
        header = self._socket.recv(2)
        if len(header) < 2:
            raise ConnectionError("the broker has closed the connection")
        return header + (self._socket.recv(header[1]) if header[1:] != b"\x00" else b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


Script = Callable[[socket.socket], None]
"""What a hostile broker does with a connection, after it has read the CONNECT."""


class HostileBroker:
    """Plays a script on each connection, and then passes what comes on to a real broker."""

    def __init__(self, scripts: Iterable[Script], *, real: tuple[str, int]) -> None:
        self._scripts = iter(scripts)
        self._real = real
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._open:
            _shut(opened)
        for thread in self._threads:
            thread.join(WAIT_S)

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name="hostile-broker")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(WAIT_S)
            self._open.append(connection)
            script = next(self._scripts, None)
            if script is None:
                self._pass_on(connection)
            else:
                self._play(script, connection)

    @staticmethod
    def _play(script: Script, connection: socket.socket) -> None:
        try:
            connection.recv(65_536)
            script(connection)
            # Until the other side has had enough.
            while connection.recv(65_536):
                pass
        except OSError:
            pass
        finally:
            connection.close()

    def _pass_on(self, connection: socket.socket) -> None:
        real = socket.create_connection(self._real)
        connection.settimeout(None)
        self._open.append(real)
        self._start(lambda: _pump(connection, real))
        self._start(lambda: _pump(real, connection))


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(sink)


def _shut(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        opened.close()
