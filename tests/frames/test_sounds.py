"""WAV: every width of sample, resampled and filled up, or refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from appliance.engine import Kind
from appliance.errors import Code
from appliance.frames import decode
from tests.frames.files import SOUND, a_float_wav, a_wav, code_of


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


def test_a_wav_of_very_many_chunks_is_too_large() -> None:
    payload = b"RIFF" + struct.pack("<I", 80_004) + b"WAVE" + b"junk\0\0\0\0" * 10_000

    assert code_of(payload, spec=SOUND, kind=Kind.AUDIO) is Code.TOO_LARGE
