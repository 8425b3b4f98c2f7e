"""Mutations of files that consist of pieces: a JPEG's segments, a PNG's and a WAV's chunks.

A changed piece gets the length and the checksum that it needs, so that a decoder reads on.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import flat

PNG_START = b"\x89PNG\r\n\x1a\n"
NPY_START = b"\x93NUMPY"

_FLOODS = 0.01
"""How many of the repetitions fill a whole frame, which takes long to make."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece's name, what is in it, and what follows it without being one."""

    name: bytes
    body: bytes
    tail: bytes = b""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A file with a piece changed, gone, come again or moved; one of no known kind is flipped."""
    split, join = _format(data)
    pieces = split(data)
    if not pieces:
        return flat.flip(data, rng)
    return join(_changed(pieces, rng))[: flat.MAX_BYTES]


def rejoined(data: bytes) -> bytes:
    """A file taken to pieces and put together again."""
    split, join = _format(data)
    return join(split(data))


def _changed(pieces: list[Piece], rng: random.Random) -> list[Piece]:
    at = rng.randrange(len(pieces))
    piece = pieces[at]
    match rng.randrange(5):
        case 0:
            body = rng.choice(flat.FLAT)(piece.body, rng)
            return [*pieces[:at], Piece(piece.name, body, piece.tail), *pieces[at + 1 :]]
        case 1:
            return [*pieces[:at], *pieces[at + 1 :]]
        case 2:
            wanted = flat.MAX_BYTES if rng.random() < _FLOODS else flat.repetitions(rng)
            times = min(wanted, 1 + flat.MAX_BYTES // (len(piece.body) + len(piece.tail) + 4))
            return [*pieces[:at], *[piece] * times, *pieces[at:]]
        case 3:
            to = rng.randrange(len(pieces))
            rest = [*pieces[:at], *pieces[at + 1 :]]
            return [*rest[:to], piece, *rest[to:]]
        case _:
            name = rng.choice(pieces).name
            return [*pieces[:at], Piece(name, piece.body, piece.tail), *pieces[at + 1 :]]


def _format(data: bytes) -> tuple[Callable[[bytes], list[Piece]], Callable[[list[Piece]], bytes]]:
    if data.startswith(PNG_START):
        return _split_png, _join_png
    if data.startswith(b"\xff\xd8"):
        return _split_jpeg, _join_jpeg
    if data.startswith(b"RIFF"):
        return _split_wav, _join_wav
    if data.startswith(NPY_START):
        return _split_npy, _join_npy
    return (lambda _data: []), (lambda _pieces: b"")


def _split_png(data: bytes) -> list[Piece]:
    pieces, at = [], len(PNG_START)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        pieces.append(Piece(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return pieces


def _join_png(pieces: list[Piece]) -> bytes:
    return PNG_START + b"".join(
        len(piece.body).to_bytes(4, "big")
        + piece.name
        + piece.body
        + zlib.crc32(piece.name + piece.body).to_bytes(4, "big")
        for piece in pieces
    )


def _split_jpeg(data: bytes) -> list[Piece]:
    """The segments, each with the coded pixels that follow it."""
    pieces, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + max(length, 2)
        following = _next_marker(data, end)
        pieces.append(Piece(data[at : at + 2], data[at + 4 : end], data[end:following]))
        at = following
    return pieces


def _next_marker(data: bytes, at: int) -> int:
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
    return len(data)


def _join_jpeg(pieces: list[Piece]) -> bytes:
    segments = b"".join(
        piece.name + (len(piece.body) % 65_534 + 2).to_bytes(2, "big") + piece.body + piece.tail
        for piece in pieces
    )
    return b"\xff\xd8" + segments + b"\xff\xd9"


def _split_wav(data: bytes) -> list[Piece]:
    pieces, at = [], 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        pieces.append(Piece(data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return pieces


def _join_wav(pieces: list[Piece]) -> bytes:
    chunks = b"".join(
        piece.name
        + len(piece.body).to_bytes(4, "little")
        + piece.body
        + b"\0" * (len(piece.body) % 2)
        for piece in pieces
    )
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks


def _split_npy(data: bytes) -> list[Piece]:
    """The version, the header's words, and the numbers."""
    if len(data) < 10:
        return []
    width = 2 if data[6] == 1 else 4
    start = 8 + width
    end = start + int.from_bytes(data[8:start], "little")
    words = data[start:end].split(b" ")
    return [Piece(data[6:8], b""), *(Piece(b"", word) for word in words), Piece(b".", data[end:])]


def _join_npy(pieces: list[Piece]) -> bytes:
    version = next((piece.name for piece in pieces if len(piece.name) == 2), b"\1\0")
    header = b" ".join(piece.body for piece in pieces if not piece.name)
    numbers = b"".join(piece.body for piece in pieces if piece.name == b".")
    width = 2 if version[0] == 1 else 4
    length = (len(header) % 256**width).to_bytes(width, "little")
    return b"".join((NPY_START, version, length, header, numbers))
