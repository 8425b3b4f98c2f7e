"""The decoders of frames: images, arrays and sound, for engines of several inputs."""

from __future__ import annotations

import warnings

import numpy as np

from appliance.engine import InputSpec, Kind, Resize
from appliance.errors import Rejected
from appliance.frames import Limits, decode
from tests.fuzz import flat, pieces
from tests.fuzz.target import Target

_INPUTS = (
    (Kind.IMAGE, InputSpec(shape=(3, 16, 16), mean=(0.5,), std=(0.25,))),
    (Kind.IMAGE, InputSpec(shape=(8, 8, 1), dtype="uint8", layout="HWC", resize=Resize.CROP)),
    (Kind.IMAGE, InputSpec(shape=(3, 8, 12), dtype="float16", resize=Resize.PAD)),
    (Kind.AUDIO, InputSpec(shape=(1, 800), sample_rate_hz=16_000)),
    (Kind.TENSOR, InputSpec(shape=(1, 8, 8))),
    (Kind.TENSOR, InputSpec(shape=(4,), dtype="int8")),
)

_LIMITS = Limits()


def check(data: bytes) -> None:
    """The frame for every engine: a tensor as its input says, or a rejection."""
    for kind, spec in _INPUTS:
        try:
            # NumPy warns of what is rejected, or read as it was meant.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tensor = decode(data, None, spec, kind, _LIMITS)
        except Rejected:
            continue
        assert tensor.shape == (1, *spec.shape)
        assert tensor.dtype == np.dtype(spec.dtype)
        assert tensor.flags.c_contiguous
        assert tensor.flags.aligned
        assert np.isfinite(tensor).all()


FRAMES = Target(
    name="frames", check=check, mutations=(pieces.mutate, pieces.mutate, pieces.mutate, *flat.FLAT)
)
