"""JPEG and PNG: resized, scaled, turned, or refused."""

from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.engine import InputSpec, Kind, Resize
from appliance.errors import Code, Rejected
from appliance.frames import decode
from tests.frames.files import (
    COLOUR,
    GREY,
    a_jpeg,
    a_png,
    code_of,
    decodes_or_is_rejected,
    image_file,
)


def test_a_jpeg_is_resized_scaled_and_normalised_by_channel() -> None:
    tensor = decode(a_jpeg(), "image/jpeg", COLOUR, Kind.IMAGE)

    assert tensor.shape == (1, 3, 8, 8)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[0, 0], 2.0, atol=0.05)
    np.testing.assert_allclose(tensor[0, 1:], -2.0, atol=0.05)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize(
    ("mean", "std"),
    [((), ()), ((0.5,), (0.25,)), ((0.1, 0.2, 0.3), ()), ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))],
)
def test_each_channel_has_its_own_mean_and_deviation_or_all_have_one(
    layout: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    shape = (3, 8, 8) if layout == "CHW" else (8, 8, 3)
    spec = InputSpec(shape=shape, layout=layout, mean=mean, std=std)

    tensor = decode(a_png(colour=(255, 51, 0)), None, spec, Kind.IMAGE)

    expected = (np.array([1.0, 0.2, 0.0]) - np.array(mean or 0.0)) / np.array(std or 1.0)
    channels = tensor[0] if layout == "HWC" else tensor[0].transpose(1, 2, 0)
    np.testing.assert_allclose(channels, np.broadcast_to(expected, (8, 8, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "colour", "value"),
    [
        ("L", 255, 1.0),
        ("RGB", (255, 255, 255), 1.0),
        ("RGBA", (255, 255, 255, 255), 1.0),
        ("LA", (255, 255), 1.0),
        ("P", 0, 0.0),
        ("1", 1, 1.0),
        ("I;16", 65_535, 1.0),
        ("I;16", 32_896, 128 / 255),
    ],
)
def test_every_kind_of_png_gives_values_from_0_to_1(
    mode: str, colour: object, value: float
) -> None:
    tensor = decode(a_png(mode, colour=colour), None, GREY, Kind.IMAGE)

    np.testing.assert_allclose(tensor, value, atol=1e-3)


def test_a_cmyk_jpeg_is_read() -> None:
    payload = image_file(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")

    assert decode(payload, None, COLOUR, Kind.IMAGE).shape == (1, 3, 8, 8)


def test_a_camera_held_sideways_gives_an_upright_image() -> None:
    picture = Image.new("L", (16, 8), 0)
    picture.paste(255, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right, to be seen upright
    payload = image_file(picture, "JPEG", exif=exif, quality=95)

    tensor = decode(payload, None, InputSpec(shape=(1, 16, 8)), Kind.IMAGE)

    assert tensor[0, 0, :8].mean() > 0.9
    assert tensor[0, 0, 8:].mean() < 0.1


def test_channels_come_last_where_the_engine_wants_them_so() -> None:
    spec = InputSpec(shape=(8, 8, 3), layout="HWC", dtype="uint8")

    tensor = decode(a_png(colour=(10, 20, 30)), None, spec, Kind.IMAGE)

    assert tensor.dtype == np.uint8
    assert tensor[0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("resize", "corner", "centre"),
    [(Resize.STRETCH, 1.0, 1.0), (Resize.CROP, 1.0, 1.0), (Resize.PAD, 0.0, 1.0)],
)
def test_a_wide_image_is_stretched_cropped_or_padded(
    resize: Resize, corner: float, centre: float
) -> None:
    spec = InputSpec(shape=(1, 8, 8), resize=resize)

    tensor = decode(a_png("L", (32, 8), 255), None, spec, Kind.IMAGE)

    assert tensor[0, 0, 0, 0] == corner
    assert tensor[0, 0, 4, 4] == centre


def test_an_engine_that_does_not_resize_refuses_another_size() -> None:
    spec = InputSpec(shape=(1, 8, 8), resize=Resize.NONE)

    assert code_of(a_png(size=(9, 8)), spec=spec) is Code.MALFORMED


def test_a_refused_size_is_the_one_that_was_sent() -> None:
    spec = InputSpec(shape=(1, 8, 8), resize=Resize.NONE)

    with pytest.raises(Rejected, match="640 x 480"):
        decode(a_jpeg((640, 480)), None, spec, Kind.IMAGE)


@pytest.mark.parametrize("resize", Resize)
@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 2), st.integers(1, 5000))
    | st.tuples(st.integers(1, 5000), st.integers(1, 2))
)
def test_an_image_of_any_proportions_is_decoded_or_rejected(
    resize: Resize, size: tuple[int, int]
) -> None:
    decodes_or_is_rejected(a_png(size=size), InputSpec(shape=(1, 8, 8), resize=resize), Kind.IMAGE)


def test_an_image_too_long_on_one_side_is_too_large() -> None:
    assert code_of(a_png("L", (20_000, 1))) is Code.TOO_LARGE


def test_alpha_is_ignored() -> None:
    tensor = decode(a_png("RGBA", colour=(255, 255, 255, 0)), None, GREY, Kind.IMAGE)

    np.testing.assert_array_equal(tensor, 1.0)


@pytest.mark.parametrize("cut", [10, 100, 300])
def test_a_truncated_image_is_malformed(cut: int) -> None:
    assert code_of(a_jpeg()[:cut]) is Code.MALFORMED


def test_a_png_without_its_end_is_malformed() -> None:
    assert code_of(a_png()[:-1], spec=COLOUR) == Code.MALFORMED


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = _png_header(60_000, 60_000)
    tracemalloc.start()

    code = code_of(bomb)

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code is Code.TOO_LARGE
    assert peak_bytes < 1_000_000


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_every_value_of_a_16_bit_image_comes_to_the_nearest_of_8_bits() -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    spec = InputSpec(shape=(1, 256, 256), dtype="uint8")

    tensor = decode(image_file(Image.fromarray(values), "PNG"), None, spec, Kind.IMAGE)

    np.testing.assert_array_equal(tensor[0, 0], np.round(values / 257.0).astype(np.uint8))


def test_a_frame_for_which_memory_is_too_short_is_not_called_malformed() -> None:
    program = """
        import io, resource
        from PIL import Image
        from appliance import frames
        from appliance.engine import InputSpec, Kind
        from appliance.errors import Rejected

        buffer = io.BytesIO()
        Image.new("RGB", (4000, 4000)).save(buffer, "PNG")
        taken = 4096 * int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (taken + 2**20, taken + 2**20))
        try:
            frames.decode(buffer.getvalue(), None, InputSpec(shape=(1, 8, 8)), Kind.IMAGE)
        except Rejected as error:
            print(int(error.code), error.detail)
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=True
    )

    assert done.stdout.startswith(b"429 too little memory is free")
