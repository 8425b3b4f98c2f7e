"""JPEG and PNG files with what their pixels do not need, which must cost nothing."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from appliance.engine import InputSpec, Kind
from appliance.errors import Code, Rejected
from appliance.frames import decode
from appliance.image_file import MAX_PARTS, MAX_SCANS, PNG_START, read_image_file

HEADER_END = len(PNG_START) + 25


def encoded(kind: str, **options: object) -> bytes:
    rows, columns = np.mgrid[0:16, 0:24]
    pixels = np.stack([rows * 15, columns * 10, rows + columns], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes = b"") -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + checksum


def with_chunks(chunks: bytes) -> bytes:
    png = encoded("PNG")
    return png[:HEADER_END] + chunks + png[HEADER_END:]


def pixels_of(data: bytes) -> list[int]:
    return list(Image.open(io.BytesIO(data)).convert("RGB").tobytes())


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000))),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))),
        chunk(b"tEXt", b"a\0b"),
        chunk(b"acTL", bytes(8)),
        chunk(b"abCd", b"anything"),
    ],
    ids=["profile", "compressed-text", "text", "animation", "unknown"],
)
def test_what_no_pixel_needs_does_not_reach_the_decoder(extra: bytes) -> None:
    file = read_image_file(with_chunks(extra))

    assert file.data == encoded("PNG")


def test_a_jpegs_texts_and_applications_do_not_reach_the_decoder() -> None:
    jpeg = encoded("JPEG", comment=b"text", exif=exif(3), icc_profile=b"profile")

    file = read_image_file(jpeg)

    assert file.data == encoded("JPEG")


def exif(orientation: int, order: str = "<") -> bytes:
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + start + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize(
    ("kind", "order", "orientation"), list(itertools.product(("JPEG", "PNG"), "<>", range(1, 9)))
)
def test_an_image_is_turned_as_pillow_turns_it(kind: str, order: str, orientation: int) -> None:
    payload = encoded(kind, exif=exif(orientation, order))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    spec = InputSpec(shape=(upright.height, upright.width, 3), dtype="uint8", layout="HWC")

    tensor = decode(payload, None, spec, Kind.IMAGE)

    np.testing.assert_array_equal(tensor[0], np.asarray(upright))


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_is_none_is_upright(orientation: int) -> None:
    assert read_image_file(encoded("JPEG", exif=exif(orientation))).orientation == 1


def test_entries_of_an_exif_that_share_their_bytes_are_not_copied() -> None:
    size = 100_000
    entries = b"".join(struct.pack("<HHII", tag, 1, size, 8) for tag in range(1000))
    tiff = b"II*\0" + struct.pack("<IH", 8, 1000) + entries + bytes(size)

    file = read_image_file(with_chunks(chunk(b"eXIf", tiff)))

    assert (file.data, file.orientation) == (encoded("PNG"), 1)


JPEG = encoded("JPEG")


@pytest.mark.parametrize(
    "payload",
    [
        with_chunks(chunk(b"tEXt") * MAX_PARTS),
        with_chunks(chunk(b"IDAT") * MAX_PARTS),
        JPEG[:2] + b"\xff\xfe\x00\x02" * MAX_PARTS + JPEG[2:],
        JPEG[:2] + b"\xff" * MAX_PARTS + JPEG[2:],
        JPEG[:2] + b"\xff\xd0" * MAX_PARTS + JPEG[2:],
        JPEG[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * MAX_SCANS + JPEG[-2:],
    ],
    ids=["texts", "pixels", "comments", "filling", "restarts", "scans"],
)
def test_a_file_of_very_many_parts_is_too_large(payload: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        read_image_file(payload)

    assert rejected.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("length", [2, 3, 4, 20, 100])
def test_a_jpeg_that_ends_before_its_pixels_is_malformed(length: int) -> None:
    with pytest.raises(Rejected) as rejected:
        read_image_file(JPEG[:length])

    assert rejected.value.code is Code.MALFORMED


def test_a_progressive_jpeg_is_read_whole() -> None:
    payload = encoded("JPEG", progressive=True)

    assert pixels_of(read_image_file(payload).data) == pixels_of(payload)
