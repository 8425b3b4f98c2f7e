"""What of a JPEG or PNG file its pixels need.

The rest (texts, colour profiles, EXIF) is left out before a decoder sees it: it costs time and
memory in no proportion to its bytes. A colour profile of a kilobyte unpacks to a megabyte, and may
stand in a file ten thousand times; entries of an EXIF may all point at the same ten megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from appliance.errors import Code, Rejected

PNG_START = b"\x89PNG\r\n\x1a\n"

MAX_PARTS = 10_000
"""Chunks of a PNG, or segments before a JPEG's pixels. libpng writes one for every 8 kB."""

MAX_SCANS = 100
"""How often a JPEG may go over its pixels; progressive ones do so some ten times. A scan of a few
bytes makes a decoder go over all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """A file without what its pixels do not need."""

    data: bytes
    orientation: int
    """Which way up the camera was, as EXIF numbers it from 1 to 8; 1 is upright."""


def read_image_file(payload: bytes | bytearray) -> ImageFile:
    """The file in a payload that starts as a JPEG or a PNG does. Raises Rejected."""
    view = memoryview(payload)
    return _png(view) if payload.startswith(PNG_START) else _jpeg(view)


# PNG.

_PNG_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _png(view: memoryview) -> ImageFile:
    kept, orientation = [view[: len(PNG_START)]], 1
    for name, chunk in _chunks(view):
        if name in _PNG_NEEDED:
            kept.append(chunk)
        elif name == b"eXIf":
            orientation = _orientation(chunk[8:-4])
        if name == b"IEND":
            return ImageFile(data=b"".join(kept), orientation=orientation)
    raise Rejected(Code.MALFORMED, "the image is cut off: it has no end")


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The name and the whole of each chunk, as far as they are whole."""
    start = len(PNG_START)
    for _ in range(MAX_PARTS):
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        if end > len(view):
            return
        yield bytes(view[start + 4 : start + 8]), view[start:end]
        start = end
    raise _too_many_parts()


# JPEG.

_APP0, _APP1, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_START_OF_SCAN = 0xDA
_LONE = frozenset({0x01, *range(0xD0, 0xDA)})
"""Markers that nothing belongs to: restarts, start and end, and one without a meaning."""

_EXIF = b"Exif\0\0"


def _jpeg(view: memoryview) -> ImageFile:
    kept, orientation = [view[:2]], 1
    for marker, start, end in _segments(view):
        if marker == _START_OF_SCAN:
            kept.append(view[start:])
            data = b"".join(kept)
            _require_few_scans(data)
            return ImageFile(data=data, orientation=orientation)
        if marker == _APP1 and view[start + 4 : start + 10] == _EXIF:
            orientation = _orientation(view[start + 10 : end])
        if _is_needed(marker):
            kept.append(view[start:end])
    raise Rejected(Code.MALFORMED, "the image cannot be decoded: its pixels are missing")


def _require_few_scans(data: bytes) -> None:
    if data.count(bytes((0xFF, _START_OF_SCAN))) > MAX_SCANS:
        raise Rejected(
            Code.TOO_LARGE, f"the image has more than {MAX_SCANS} scans: save it with fewer"
        )


def _is_needed(marker: int) -> bool:
    """Of what applications add, two tell in which colours the pixels are: JFIF and Adobe."""
    return not (_APP0 < marker <= _APP15 and marker != _APP14) and marker != _COMMENT


def _segments(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Each segment's marker, where it starts and where it ends; as far as the first scan."""
    start = 2
    for _ in range(MAX_PARTS):
        if start + 1 >= len(view):
            return
        if view[start] != 0xFF:
            raise Rejected(
                Code.MALFORMED, f"the image cannot be decoded: byte {start} begins no segment"
            )
        marker = view[start + 1]
        if marker == 0xFF:  # one byte to fill up with
            start += 1
        elif marker == 0 or marker in _LONE:
            start += 2
        else:
            end = start + 2 + int.from_bytes(view[start + 2 : start + 4], "big")
            yield marker, start, end
            start = end
    raise _too_many_parts()


def _too_many_parts() -> Rejected:
    return Rejected(
        Code.TOO_LARGE, f"the image consists of more than {MAX_PARTS} parts: save it anew"
    )


# EXIF.

_ORIENTATION = 0x0112
_BYTES: dict[int, int] = {3: 2, 4: 4}
"""How long a number of the types is that an orientation is written in."""


def _orientation(exif: memoryview) -> int:
    """What the first directory of an EXIF says; 1 where it says nothing that is understood."""
    order = _byte_order(exif)
    if order is None:
        return 1
    first = int.from_bytes(exif[4:8], order) + 2
    count = int.from_bytes(exif[first - 2 : first], order)
    for start in range(first, min(first + 12 * count, len(exif) - 11), 12):
        if int.from_bytes(exif[start : start + 2], order) == _ORIENTATION:
            length = _BYTES.get(int.from_bytes(exif[start + 2 : start + 4], order), 0)
            value = int.from_bytes(exif[start + 8 : start + 8 + length], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _byte_order(exif: memoryview) -> Literal["little", "big"] | None:
    match bytes(exif[:4]):
        case b"II*\0":
            return "little"
        case b"MM\0*":
            return "big"
        case _:
            return None
