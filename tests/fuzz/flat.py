"""Mutations of bytes that know nothing of what the bytes mean."""

from __future__ import annotations

import random
import struct

MAX_BYTES = 10_000_001
"""One more than a frame may have."""

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_FORMATS = {1: "B", 2: "H", 4: "I"}


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits are the other way round."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def number(data: bytes, rng: random.Random) -> bytes:
    """One, two or four bytes are a number at the edge of what they hold, in either order."""
    width = rng.choice((1, 2, 4))
    value = rng.choice(_NUMBERS) & (256**width - 1)
    at = rng.randrange(max(1, len(data)))
    packed = struct.pack(rng.choice("<>") + _FORMATS[width], value)
    return data[:at] + packed + data[at + width :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data) + 1)]


def remove(data: bytes, rng: random.Random) -> bytes:
    """A piece is missing."""
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A piece comes again, a few times or very often."""
    start, end = _span(data, rng)
    piece = data[start:end][:4096]
    return _limited(data[:end] + piece * repetitions(rng) + data[end:])


def insert(data: bytes, rng: random.Random) -> bytes:
    """Something is in the middle that does not belong there."""
    at = rng.randrange(len(data) + 1)
    return _limited(data[:at] + rng.randbytes(rng.choice((1, 4, 64))) + data[at:])


def move(data: bytes, rng: random.Random) -> bytes:
    """A piece has come to stand elsewhere."""
    start, end = _span(data, rng)
    rest = data[:start] + data[end:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + data[start:end] + rest[at:]


def repetitions(rng: random.Random) -> int:
    """How often: mostly a few times, now and then so often that it must be refused."""
    return rng.choice((1, 1, 2, 2, 3, 8, 8, 64, 64, 1000))


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + 1 + int(rng.expovariate(1 / 24)))


def _limited(data: bytes) -> bytes:
    return data[:MAX_BYTES]


FLAT = (flip, number, cut, remove, repeat, insert, move)
