"""Images, tensors and sounds as the files that sensors send, and what engines take."""

from __future__ import annotations

import io
import struct
import wave
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from appliance.engine import InputSpec, Kind
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


def decodes_or_is_rejected(payload: bytes, spec: InputSpec, kind: Kind) -> None:
    try:
        tensor = decode(payload, None, spec, kind)
    except Rejected as rejected:
        assert rejected.detail  # noqa: PT017 - either outcome is right, nothing else is
    else:
        assert tensor.shape == (1, *spec.shape)
        assert np.isfinite(tensor).all()
