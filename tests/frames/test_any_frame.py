"""Frames of any type: told, seen, damaged, or made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine import InputSpec, Kind
from appliance.errors import Code
from appliance.frames import Limits, decode
from tests.frames.files import (
    COLOUR,
    GREY,
    SOUND,
    a_jpeg,
    a_png,
    a_wav,
    an_npy,
    code_of,
    decodes_or_is_rejected,
)


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


FILES: dict[str, tuple[bytes, InputSpec, Kind]] = {
    "jpeg": (a_jpeg(), COLOUR, Kind.IMAGE),
    "png": (a_png(size=(32, 32)), GREY, Kind.IMAGE),
    "npy": (an_npy(np.zeros((1, 8, 8), np.float32)), GREY, Kind.TENSOR),
    "wav": (a_wav(np.zeros(1600, "<i2")), SOUND, Kind.AUDIO),
}


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
