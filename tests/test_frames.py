"""Frames: real files in, tensors out, and nothing but a rejection from what is broken."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import wave
import zlib
from typing import Any

import numpy as np
import numpy.lib.format as npy_lib_format
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from appliance.engine import InputSpec, Kind, Resize
from appliance.errors import Code, Rejected
from appliance.frames import Limits, decode

GREY = InputSpec(shape=(1, 8, 8))
COLOUR = InputSpec(shape=(3, 8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
SOUND = InputSpec(shape=(1, 1600), sample_rate_hz=16_000)


def image_file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def a_jpeg(size: tuple[int, int] = (64, 48), colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    return image_file(Image.new("RGB", size, colour), "JPEG", quality=95)


def a_png(mode: str = "RGB", size: tuple[int, int] = (8, 8), colour: object = 0) -> bytes:
    return image_file(Image.new(mode, size, colour), "PNG")  # type: ignore[arg-type]


def an_npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def an_npy_of(header: bytes, data: bytes) -> bytes:
    """An NPY with a header of the test's own."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + data


def a_wav(
    samples: NDArray[np.generic], *, rate_hz: int = 16_000, channels: int = 1, width: int = 2
) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate_hz)
        sound.writeframes(samples.tobytes())
    return buffer.getvalue()


def a_float_wav(samples: NDArray[np.floating[Any]]) -> bytes:
    width, data = samples.itemsize, samples.tobytes()
    described = struct.pack("<HHIIHH", 3, 1, 16_000, 16_000 * width, width, 8 * width)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + described
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def code_of(
    payload: bytes,
    content_type: str | None = None,
    spec: InputSpec = GREY,
    kind: Kind = Kind.IMAGE,
    limits: Limits = Limits(),  # noqa: B008
) -> Code:
    with pytest.raises(Rejected) as rejected:
        decode(payload, content_type, spec, kind, limits)
    assert rejected.value.detail
    return rejected.value.code


# Images.


def test_a_jpeg_is_resized_scaled_and_normalised_by_channel() -> None:
    tensor = decode(a_jpeg(), "image/jpeg", COLOUR, Kind.IMAGE)

    assert tensor.shape == (1, 3, 8, 8)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[0, 0], 2.0, atol=0.05)
    np.testing.assert_allclose(tensor[0, 1:], -2.0, atol=0.05)


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


# Tensors.


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 8, 8)])
def test_an_npy_is_the_ready_input_with_or_without_a_batch_axis(shape: tuple[int, ...]) -> None:
    array = np.arange(64, dtype=np.float32).reshape(shape)

    tensor = decode(an_npy(array), "application/x-npy", GREY, Kind.TENSOR)

    assert tensor.shape == (1, 1, 8, 8)
    np.testing.assert_array_equal(tensor.ravel(), np.arange(64))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "u1", "<i8", "?"])
def test_numbers_of_other_types_and_byte_orders_are_converted_by_value(dtype: str) -> None:
    array = np.ones((1, 8, 8), dtype)

    tensor = decode(an_npy(array), None, GREY, Kind.TENSOR)

    assert tensor.dtype == np.float32
    assert tensor.sum() == 64


def test_fortran_order_is_read_as_what_it_stands_for() -> None:
    array = np.asfortranarray(np.arange(64, dtype=np.float32).reshape(1, 8, 8))

    tensor = decode(an_npy(array), None, GREY, Kind.TENSOR)

    np.testing.assert_array_equal(tensor[0], array)
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_malformed(value: float) -> None:
    array = np.zeros((1, 8, 8), np.float32)
    array[0, 3, 3] = value

    assert code_of(an_npy(array)) is Code.MALFORMED


def test_a_number_too_large_for_the_engines_type_is_malformed() -> None:
    assert code_of(an_npy(np.full((1, 8, 8), 1e300))) is Code.MALFORMED


@pytest.mark.parametrize("value", [np.nan, np.inf, 300.0, -1.0, 0.5])
def test_an_input_of_integers_takes_only_what_it_can_hold(value: float) -> None:
    spec = InputSpec(shape=(4,), dtype="uint8")

    assert code_of(an_npy(np.full(4, value)), spec=spec, kind=Kind.TENSOR) is Code.MALFORMED
    assert decode(an_npy(np.full(4, 255.0)), None, spec, Kind.TENSOR).tolist() == [[255] * 4]


@pytest.mark.parametrize("padding", range(4))
def test_a_header_of_any_length_gives_an_aligned_tensor(padding: int) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }" + b" " * padding
    values = np.arange(64, dtype="<f4")

    tensor = decode(an_npy_of(header, values.tobytes()), None, GREY, Kind.TENSOR)

    assert tensor.flags.aligned
    np.testing.assert_array_equal(tensor.ravel(), values)


def test_an_array_that_fits_is_not_copied() -> None:
    payload = bytearray(an_npy(np.zeros((1, 8, 8), np.float32)))

    tensor = decode(payload, None, GREY, Kind.TENSOR)

    assert np.shares_memory(tensor, np.frombuffer(payload, np.uint8))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version: tuple[int, int]) -> None:
    array = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    buffer = io.BytesIO()
    write_array: Any = npy_lib_format.write_array  # untyped in NumPy's last release for 3.10
    write_array(buffer, array, version=version)

    np.testing.assert_array_equal(decode(buffer.getvalue(), None, GREY, Kind.IMAGE)[0], array)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8, 8)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, True, 8, 8)}",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 8, 8)}",
        b"-" * 9000 + b"1",
        b"(" * 9000,
        b"\xff" * 50,
    ],
)
def test_an_odd_header_is_malformed(header: bytes) -> None:
    assert code_of(an_npy_of(header, bytes(256)), spec=GREY) == Code.MALFORMED


def test_a_wrong_shape_is_malformed_and_both_shapes_are_named() -> None:
    with pytest.raises(Rejected, match=r"\(3, 8, 8\).*\(1, 8, 8\)"):
        decode(an_npy(np.zeros((3, 8, 8), np.float32)), None, GREY, Kind.TENSOR)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.zeros((1, 8, 8), [("a", "f4")]),
        np.zeros((1, 8, 8), np.complex64),
        np.zeros((1, 8, 8), "U1"),
        np.zeros((1, 8, 8), "M8[s]"),
    ],
    ids=["objects", "structured", "complex", "text", "dates"],
)
def test_only_plain_numbers_are_accepted_and_nothing_is_unpickled(
    array: NDArray[np.generic],
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)

    assert code_of(buffer.getvalue()) is Code.MALFORMED


def test_a_header_that_asks_for_more_than_there_is_allocates_nothing() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }".ljust(117)

    assert code_of(an_npy_of(header, bytes(8))) is Code.MALFORMED


# Sound.


@pytest.mark.parametrize(
    ("width", "dtype", "full"), [(1, "u1", 255), (2, "<i2", 2**15 - 1), (4, "<i4", 2**31 - 1)]
)
def test_samples_of_every_width_come_to_minus_1_to_1(width: int, dtype: str, full: int) -> None:
    payload = a_wav(np.full(1600, full, dtype), width=width)

    tensor = decode(payload, "audio/wav", SOUND, Kind.AUDIO)

    assert tensor.shape == (1, 1, 1600)
    np.testing.assert_allclose(tensor, 1.0, atol=0.01)


def test_samples_of_three_bytes_are_read() -> None:
    half = np.tile(np.array([0, 0, 0x40], np.uint8), 1600)

    tensor = decode(a_wav(half, width=3), None, SOUND, Kind.AUDIO)

    np.testing.assert_allclose(tensor, 0.5, atol=1e-6)


def test_an_extensible_wav_of_integer_samples_is_read() -> None:
    plain = a_wav(np.tile(np.array([0, 0, 0x40], np.uint8), 1600), width=3)
    integers = bytes.fromhex("0100000000001000800000aa00389b71")
    extension = struct.pack("<HHI", 22, 24, 4) + integers
    described = struct.pack("<I", 40) + b"\xfe\xff" + plain[22:36] + extension
    length = struct.pack("<I", len(plain) - 8 + 24)
    payload = plain[:4] + length + plain[8:16] + described + plain[36:]

    tensor = decode(payload, None, SOUND, Kind.AUDIO)

    np.testing.assert_allclose(tensor, 0.5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_a_wav_of_floats_is_read(dtype: str) -> None:
    tensor = decode(a_float_wav(np.full(1600, -0.25, dtype)), None, SOUND, Kind.AUDIO)

    np.testing.assert_array_equal(tensor, np.full((1, 1, 1600), -0.25, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_wav_of_what_are_no_numbers_is_malformed(value: float) -> None:
    assert code_of(a_float_wav(np.full(1600, value)), spec=SOUND, kind=Kind.AUDIO) == Code.MALFORMED


def test_a_compressed_or_empty_wav_is_malformed() -> None:
    plain = a_wav(np.zeros(1600, "<i2"))

    assert (
        code_of(plain[:20] + b"\x06\x00" + plain[22:], spec=SOUND, kind=Kind.AUDIO)
        == Code.MALFORMED
    )
    assert code_of(a_wav(np.zeros(0, "<i2")), spec=SOUND, kind=Kind.AUDIO) == Code.MALFORMED


def test_a_stereo_sound_becomes_mono_and_a_short_one_is_filled_with_silence() -> None:
    stereo = np.tile(np.array([2**14, 0], "<i2"), 800)

    tensor = decode(a_wav(stereo, channels=2), None, SOUND, Kind.AUDIO)

    np.testing.assert_allclose(tensor[0, 0, :800], 0.25, atol=1e-3)
    assert not tensor[0, 0, 800:].any()


def test_another_sample_rate_is_resampled() -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(800) / 8000) * 2**14
    wanted = np.sin(2 * np.pi * 100 * np.arange(1600) / 16_000) / 2

    tensor = decode(a_wav(tone.astype("<i2"), rate_hz=8000), None, SOUND, Kind.AUDIO)

    np.testing.assert_allclose(tensor[0, 0, :1590], wanted[:1590], atol=0.02)


def test_a_wav_that_is_cut_off_is_malformed() -> None:
    payload = a_wav(np.zeros(1600, "<i2"))

    assert code_of(payload[:1000], spec=SOUND, kind=Kind.AUDIO) is Code.MALFORMED


# Types.


@pytest.mark.parametrize(
    "content_type",
    ["image/png", "IMAGE/PNG", "image/png; charset=binary", None, "", "application/octet-stream"],
)
def test_the_type_is_told_or_seen(content_type: str | None) -> None:
    assert decode(a_png(), content_type, GREY, Kind.IMAGE).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("payload", "content_type", "kind", "code"),
    [
        (b"", None, Kind.IMAGE, Code.MALFORMED),
        (b"GIF89a", None, Kind.IMAGE, Code.UNKNOWN_TYPE),
        (a_png(), "image/gif", Kind.IMAGE, Code.UNKNOWN_TYPE),
        (a_png(), "image/jpeg", Kind.IMAGE, Code.MALFORMED),
        (a_png(), None, Kind.AUDIO, Code.UNKNOWN_TYPE),
        (a_png(), None, Kind.TENSOR, Code.UNKNOWN_TYPE),
        (a_wav(np.zeros(10, "<i2")), None, Kind.IMAGE, Code.UNKNOWN_TYPE),
    ],
)
def test_what_does_not_fit_is_refused_with_its_code(
    payload: bytes, content_type: str | None, kind: Kind, code: Code
) -> None:
    assert code_of(payload, content_type, kind=kind) is code


def test_a_frame_over_the_limit_in_bytes_is_too_large() -> None:
    assert code_of(bytes(100), limits=Limits(max_bytes=99)) is Code.TOO_LARGE


# Whatever comes.

FILES: dict[str, tuple[bytes, InputSpec, Kind]] = {
    "jpeg": (a_jpeg(), COLOUR, Kind.IMAGE),
    "png": (a_png(size=(32, 32)), GREY, Kind.IMAGE),
    "npy": (an_npy(np.zeros((1, 8, 8), np.float32)), GREY, Kind.TENSOR),
    "wav": (a_wav(np.zeros(1600, "<i2")), SOUND, Kind.AUDIO),
}


def decodes_or_is_rejected(payload: bytes, spec: InputSpec, kind: Kind) -> None:
    try:
        tensor = decode(payload, None, spec, kind)
    except Rejected as rejected:
        assert rejected.detail  # noqa: PT017 - either outcome is right, nothing else is
    else:
        assert tensor.shape == (1, *spec.shape)
        assert np.isfinite(tensor).all()


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_decoded_or_rejected(name: str, data: st.DataObject) -> None:
    payload, spec, kind = FILES[name]
    damaged = bytearray(payload[: data.draw(st.integers(1, len(payload)))])
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    decodes_or_is_rejected(bytes(damaged), spec, kind)


@pytest.mark.parametrize(
    "start", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\x00", b"RIFF0000WAVE"]
)
@settings(max_examples=100, deadline=None)
@given(rest=st.binary(max_size=300))
def test_random_bytes_are_rejected(start: bytes, rest: bytes) -> None:
    for spec, kind in ((GREY, Kind.IMAGE), (GREY, Kind.TENSOR), (SOUND, Kind.AUDIO)):
        decodes_or_is_rejected(start + rest, spec, kind)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.lists(st.integers(-1, 2**40), max_size=5).map(tuple),
    descr=st.sampled_from(["<f4", "|O", "<U9", "<f8", "|V8", "nonsense", "<i1024"]),
)
def test_no_npy_header_makes_it_allocate(shape: tuple[int, ...], descr: str) -> None:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()

    decodes_or_is_rejected(an_npy_of(header, bytes(256)), GREY, Kind.TENSOR)


@settings(max_examples=150, deadline=None)
@given(
    spec_dtype=st.sampled_from(["float32", "float16", "uint8", "int64"]),
    dtype=st.sampled_from(["<f2", "<f4", ">f8", "u1", "<i8", "<u8", "?"]),
    data=st.binary(min_size=32, max_size=32),
)
def test_whatever_bits_an_array_has_it_is_converted_or_rejected(
    spec_dtype: str, dtype: str, data: bytes
) -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (4,), }}".encode()
    payload = an_npy_of(header, data[: 4 * np.dtype(dtype).itemsize])

    decodes_or_is_rejected(payload, InputSpec(shape=(4,), dtype=spec_dtype), Kind.TENSOR)


def test_a_header_of_blanks_is_refused_before_it_is_read() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }" + b" " * 9000 + b"\\"

    with pytest.raises(Rejected, match="at most 1024"):
        decode(an_npy_of(header, bytes(256)), None, GREY, Kind.TENSOR)


def test_a_wav_of_very_many_chunks_is_too_large() -> None:
    payload = b"RIFF" + struct.pack("<I", 80_004) + b"WAVE" + b"junk\0\0\0\0" * 10_000

    assert code_of(payload, spec=SOUND, kind=Kind.AUDIO) is Code.TOO_LARGE


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
