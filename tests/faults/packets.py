"""MQTT packets out of a stream of bytes: where each ends, and which acknowledge something."""

from __future__ import annotations

PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 3, 4, 5, 6, 7
ACKNOWLEDGEMENTS = frozenset({PUBACK, PUBREC, PUBREL, PUBCOMP})
_MAX_LENGTH_BYTES = 4


class Packets:
    """Cuts what arrives into whole packets, their headers included (MQTT 5, section 2.1)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now. Raises ValueError for a length that is none."""
        self._rest += data
        packets = []
        while (size := _size(self._rest)) is not None and len(self._rest) >= size:
            packets.append(self._rest[:size])
            self._rest = self._rest[size:]
        return packets


def kind_of(packet: bytes) -> int:
    """The packet's type, as the standard numbers them."""
    return packet[0] >> 4


def _size(data: bytes) -> int | None:
    """How long the first packet is, with its header; None while that cannot be told."""
    length = 0
    for place, byte in enumerate(data[1 : 1 + _MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return 2 + place + length
    if len(data) > _MAX_LENGTH_BYTES:
        raise ValueError("a packet's length ends after four bytes at most")
    return None
