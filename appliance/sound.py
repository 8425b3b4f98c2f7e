"""A WAV into mono samples of the rate that is asked for."""

from __future__ import annotations

import io
import math
import wave

import numpy as np
from numpy.typing import NDArray

from appliance.errors import Code, Rejected

Samples = NDArray[np.float32]

_INTEGERS, _FLOATS, _EXTENSIBLE = 1, 3, 0xFFFE
"""What a WAV says that its samples are; an extensible one says it further on."""

_EXTENSION = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the true format in an extensible WAV, where it is one of the others."""

MAX_CHUNKS = 1_000


def samples(payload: bytes | bytearray, count: int, rate_hz: int) -> Samples:
    """The first `count` samples at most, mono, whole numbers scaled to -1..1.

    Raises Rejected, or whatever the standard library raises for a broken file.
    """
    read, own_rate_hz = _read(payload, seconds=count / rate_hz)
    if own_rate_hz != rate_hz:
        read = _resampled(read, own_rate_hz, rate_hz)
    return read[:count]


def _read(payload: bytes | bytearray, *, seconds: float) -> tuple[Samples, int]:
    """Mono samples, as many as the seconds take, and their rate in Hz."""
    format_ = _format(payload)
    if format_ not in (_INTEGERS, _FLOATS):
        raise Rejected(
            Code.MALFORMED, f"the WAV's samples are compressed (format {format_}): send PCM"
        )
    _require_few_chunks(payload)
    # The standard library reads whole numbers alone, and extensible files only from 3.12 on.
    with wave.open(io.BytesIO(payload[:20] + b"\x01\x00" + payload[22:])) as sound:
        channels, width, rate_hz = (
            sound.getnchannels(),
            sound.getsampwidth(),
            sound.getframerate(),
        )
        count = sound.getnframes()
        data = sound.readframes(count)
    if not count:
        raise Rejected(Code.MALFORMED, "the WAV holds no sound")
    if len(data) < count * channels * width:
        raise Rejected(Code.MALFORMED, "the WAV is cut off: it has less sound than its header says")
    if not 1_000 <= rate_hz <= 768_000:
        raise Rejected(Code.MALFORMED, f"the WAV's sample rate of {rate_hz} Hz is out of range")
    # What the input has no room for is not converted.
    wanted = math.ceil(seconds * rate_hz) + 1
    data = data[: wanted * channels * width]
    values = _floats(data, width) if format_ == _FLOATS else _integers(data, width)
    return values.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate_hz


def _require_few_chunks(payload: bytes | bytearray) -> None:
    """The standard library takes a microsecond or two for each, even an empty one."""
    start = 12
    for _ in range(MAX_CHUNKS):
        if start >= len(payload):
            return
        length = int.from_bytes(payload[start + 4 : start + 8], "little")
        start += 8 + length + length % 2
    raise Rejected(Code.TOO_LARGE, f"the WAV has more than {MAX_CHUNKS} chunks: save it anew")


def _format(payload: bytes | bytearray) -> int:
    if payload[12:16] != b"fmt ":  # it comes after something else, and is left to the library
        return _INTEGERS
    format_ = int.from_bytes(payload[20:22], "little")
    if format_ == _EXTENSIBLE and payload[46:60] == _EXTENSION:
        return int.from_bytes(payload[44:46], "little")
    return format_


def _floats(data: bytes, width: int) -> Samples:
    """Samples of 4 or 8 bytes that are -1..1 by custom, and may be louder."""
    if width not in (4, 8):
        raise Rejected(Code.MALFORMED, f"the WAV has floats of {8 * width} bits: use 32 or 64")
    with np.errstate(over="ignore"):  # it is judged here
        values = np.frombuffer(data, f"<f{width}").astype(np.float32)
    if not np.isfinite(values).all():
        raise Rejected(Code.MALFORMED, "the WAV holds NaN, infinity or a number too large")
    return values


def _integers(data: bytes, width: int) -> Samples:
    """Samples of 1 to 4 bytes as -1..1; those of one byte are unsigned, as WAV has it."""
    match width:
        case 1:
            return _scaled(np.frombuffer(data, np.uint8).astype(np.float32) - 128.0, 7)
        case 2:
            return _scaled(np.frombuffer(data, "<i2").astype(np.float32), 15)
        case 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return _scaled(wide.view("<i4")[:, 0].astype(np.float32), 31)
        case 4:
            return _scaled(np.frombuffer(data, "<i4").astype(np.float32), 31)
        case _:
            raise Rejected(Code.MALFORMED, f"the WAV has {8 * width} bits a sample: use 8 to 32")


def _scaled(values: Samples, bits: int) -> Samples:
    values /= np.float32(2.0**bits)
    return values


def _resampled(values: Samples, from_hz: int, to_hz: int) -> Samples:
    """Linear interpolation: enough for speech, and no library more."""
    count = max(1, round(len(values) * to_hz / from_hz))
    positions = np.arange(count) * (from_hz / to_hz)
    resampled: Samples = np.interp(positions, np.arange(len(values)), values).astype(np.float32)
    return resampled
