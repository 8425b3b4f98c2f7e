"""Packets out of a stream, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.packets import PUBACK, Packets, kind_of


def a_packet(kind: int, length: int) -> bytes:
    header, left = [kind << 4], length
    while True:
        left, digit = left >> 7, left & 0x7F
        header.append(digit | (0x80 if left else 0))
        if not left:
            return bytes(header) + bytes(length)


@given(
    st.lists(st.tuples(st.integers(1, 15), st.integers(0, 2_000)), max_size=5),
    st.lists(st.integers(1, 2_000), min_size=1, max_size=20),
)
def test_packets_come_out_whole_and_in_order(
    sizes: list[tuple[int, int]], pieces: list[int]
) -> None:
    packets = [a_packet(kind, length) for kind, length in sizes]
    stream, reader, found = b"".join(packets), Packets(), []

    for number in range(len(stream)):
        piece = pieces[number % len(pieces)]
        found += reader.feed(stream[:piece])
        stream = stream[piece:]
        if not stream:
            break

    assert found == packets


def test_the_kind_of_a_packet_is_told() -> None:
    assert kind_of(b"\x40\x02\x00\x01") == PUBACK


def test_a_length_without_an_end_is_none() -> None:
    with pytest.raises(ValueError, match="four bytes"):
        Packets().feed(b"\x30\xff\xff\xff\xff\xff")
