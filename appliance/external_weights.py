"""Which files beside it an ONNX file takes its weights from: those in its engine's folder alone."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from appliance.enclosure import lies_within
from appliance.errors import EngineError

_LOCATION = b"location"
"""The key of `TensorProto.external_data` whose value is a path, beside the ONNX file."""

_ORT_FORMAT = ".ort"
"""ONNX Runtime's own format, told by the name alone, in which all weights are in the file."""

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _SPARSE, _TENSOR, _ENTRY = range(9)

_INSIDE: Mapping[int, Mapping[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
"""By which fields one message of onnx.proto holds another in which there may be a location."""

_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
"""Protocol Buffers' wire types. Groups, the others, have never been in onnx.proto."""

_LONGEST_VARINT = 10


class _Field(NamedTuple):
    number: int
    start: int
    end: int
    """Where its content lies; empty unless it is a message, a string or bytes."""


def refuse_strays(onnx: Path, folder: Path) -> None:
    """Raises EngineError where an ONNX file has its weights read from outside the folder.

    ONNX Runtime 1.23, the last for Python 3.10, would read whatever this process may.
    """
    if onnx.suffix == _ORT_FORMAT:
        return
    try:
        locations = set(_locations_in(onnx))
    except (OSError, ValueError) as error:
        raise EngineError(f"{onnx} cannot be read as an ONNX file: {error}") from error
    for location in sorted(locations):
        name = os.fsdecode(location)
        if not _is_file_within(onnx.parent, name, folder):
            raise EngineError(
                f"{onnx} takes weights from {name!r}, which is no file in {folder}:"
                " put them beside it, and have it name them by that name"
            )


def _is_file_within(beside: Path, name: str, folder: Path) -> bool:
    try:
        path = beside / name
        return lies_within(path, folder) and path.is_file()
    except (OSError, ValueError):  # too long a name, or a NUL in it
        return False


def _locations_in(onnx: Path) -> list[bytes]:
    with onnx.open("rb") as file:
        if not file.seek(0, 2):
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # Mostly there is none, and then what else is in the file is not looked at.
            return [] if data.find(_LOCATION) < 0 else locations(data)


def locations(data: bytes | mmap.mmap) -> list[bytes]:
    """Every location in an ONNX file, whichever of several a reader would take.

    Raises ValueError where it is none.
    """
    found = []
    to_do = [(_MODEL, 0, len(data))]
    while to_do:
        kind, start, end = to_do.pop()
        if kind == _ENTRY:
            found += _values(data, start, end)
            continue
        inside = _INSIDE[kind]
        to_do += [
            (inside[field.number], field.start, field.end)
            for field in _fields(data, start, end)
            if field.number in inside
        ]
    return found


def _values(data: bytes | mmap.mmap, start: int, end: int) -> list[bytes]:
    """What an entry says, where its key may be that of a location."""
    said: dict[int, list[bytes]] = {_ENTRY_KEY: [], _ENTRY_VALUE: []}
    for field in _fields(data, start, end):
        if field.number in said:
            said[field.number].append(data[field.start : field.end])
    return (said[_ENTRY_VALUE] or [b""]) if _LOCATION in said[_ENTRY_KEY] else []


def _fields(data: bytes | mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message, one after another. Raises ValueError where it is none."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        # A tag has 32 bits: what readers see where more are written is what is left of them.
        number, wire_type = (tag & 0xFFFF_FFFF) >> 3, tag & 7
        if wire_type == _VARINT:
            _, at = _varint(data, at, end)
            continue
        if wire_type == _BYTES:
            size, at = _varint(data, at, end)
        elif wire_type in {_EIGHT_BYTES, _FOUR_BYTES}:
            size = 8 if wire_type == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of wire type {wire_type}, which ONNX does not have")
        if size > end - at:
            raise ValueError("it ends in the middle of a field")
        if wire_type == _BYTES:
            yield _Field(number, at, at + size)
        at += size


def _varint(data: bytes | mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A whole number, and where it ends."""
    value = 0
    for place in range(min(_LONGEST_VARINT, end - at)):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("it ends in the middle of a number")
