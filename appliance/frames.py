"""A frame's bytes into the first stage's input: JPEG, PNG, NPY and WAV, each with limits first."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from appliance import sound
from appliance.engine import InputSpec, Kind, Resize
from appliance.errors import Code, Rejected
from appliance.image_file import PNG_START, read_image_file
from appliance.npy_header import NPY_START, read_npy_header

Payload = bytes | bytearray
Tensor = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a frame may ask for; checked before anything is allocated for it."""

    max_bytes: int = 10_000_000
    max_pixels: int = 25_000_000
    max_side: int = 16_384
    """Pixels along one side. Resizing takes memory by the side: a thin image can ask for much."""


def decode(
    payload: Payload,
    content_type: str | None,
    spec: InputSpec,
    kind: Kind,
    limits: Limits = Limits(),
) -> Tensor:
    """The tensor in a frame: shape (1, *spec.shape), of spec.dtype, C-contiguous.

    What it is comes from the content type, else from its first bytes. An NPY is taken as the
    ready input, with or without the batch axis, whatever its dtype: bytes too are values, not
    pixels to normalise. An image is turned upright (EXIF), its alpha is ignored, and it is scaled
    to 0..1 and normalised; an input of integers gets its pixels, 0..255.
    Raises Rejected: 400 for what is malformed, 413 for what is too large, 415 for an unknown type.
    """
    if len(payload) > limits.max_bytes:
        raise Rejected(
            Code.TOO_LARGE,
            f"the frame has {len(payload)} bytes; at most {limits.max_bytes} are accepted",
        )
    if not payload:
        raise Rejected(Code.MALFORMED, "the frame is empty: no byte of it arrived")
    media = _media(payload, content_type)
    if media in (_JPEG, _PNG) and kind is not Kind.IMAGE:
        raise Rejected(Code.UNKNOWN_TYPE, f"this engine takes {kind.value} frames, not images")
    if media == _WAV and kind is not Kind.AUDIO:
        raise Rejected(Code.UNKNOWN_TYPE, f"this engine takes {kind.value} frames, not sound")
    try:
        tensor = _DECODERS[media](payload, spec, limits)
    except Rejected:
        raise
    except MemoryError as error:
        raise Rejected(
            Code.TOO_MANY,
            "too little memory is free to decode it: send it again later, or with fewer pixels",
        ) from error
    except Exception as error:  # decoders raise whatever a broken file makes them meet
        said = str(error) or type(error).__name__
        raise Rejected(Code.MALFORMED, f"the {_NAMES[media]} cannot be decoded: {said}") from error
    # An NPY header of odd length leaves its numbers unaligned, which a runtime may not expect.
    return np.require(tensor, requirements=("C_CONTIGUOUS", "ALIGNED"))


# What a frame is.

_JPEG, _PNG, _NPY, _WAV = "image/jpeg", "image/png", "application/x-npy", "audio/wav"

MEDIA_TYPES = (_JPEG, _PNG, _NPY, _WAV)
"""What a frame's Content Type may be; some other spellings are understood, too."""

_NAMES = {_JPEG: "image", _PNG: "image", _NPY: "NPY", _WAV: "WAV"}

_ALIASES = {
    "image/jpg": _JPEG,
    "image/pjpeg": _JPEG,
    "application/x-numpy": _NPY,
    "application/npy": _NPY,
    "audio/x-wav": _WAV,
    "audio/wave": _WAV,
    "audio/vnd.wave": _WAV,
}
_UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})


def _media(payload: Payload, content_type: str | None) -> str:
    told = (content_type or "").partition(";")[0].strip().lower()
    told = _ALIASES.get(told, told)
    seen = _sniff(payload)
    if told in _UNTOLD:
        if seen is None:
            raise Rejected(
                Code.UNKNOWN_TYPE,
                "the frame starts like no JPEG, PNG, NPY or WAV: send one of these",
            )
        return seen
    if told not in _DECODERS:
        known = ", ".join(_DECODERS)
        raise Rejected(Code.UNKNOWN_TYPE, f"the content type {told[:80]!r} is not one of {known}")
    if told != seen:
        raise Rejected(Code.MALFORMED, f"the frame is said to be {told}, but does not start so")
    return told


def _sniff(payload: Payload) -> str | None:
    start = bytes(payload[:12])
    if start.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if start.startswith(PNG_START):
        return _PNG
    if start.startswith(NPY_START):
        return _NPY
    if start.startswith(b"RIFF") and start[8:12] == b"WAVE":
        return _WAV
    return None


# Images.


def _decode_image(payload: Payload, spec: InputSpec, limits: Limits) -> Tensor:
    channels, height, width = _image_shape(spec)
    # What is scaled down anyway need not be decoded at its full size.
    enough = None if spec.resize is Resize.NONE else (2 * width, 2 * height)
    image = _open_image(payload, limits, "L" if channels == 1 else "RGB", enough)
    if image.size != (width, height):
        image = _resized(image, (width, height), spec.resize)
    pixels = np.asarray(image).reshape(height, width, channels)
    if np.dtype(spec.dtype).kind == "f":
        return _normalised(pixels, spec).astype(spec.dtype, copy=False)[None]
    if spec.layout == "CHW":
        pixels = pixels.transpose(2, 0, 1)
    return pixels.astype(spec.dtype, copy=False)[None]


def _image_shape(spec: InputSpec) -> tuple[int, int, int]:
    """Channels, height and width of the input."""
    if len(spec.shape) != 3:
        raise Rejected(Code.UNKNOWN_TYPE, "this engine's input is no image: send an NPY")
    channels, height, width = (
        spec.shape if spec.layout == "CHW" else (spec.shape[2], *spec.shape[:2])
    )
    if channels not in (1, 3):
        raise Rejected(Code.UNKNOWN_TYPE, "this engine's input is no picture: send an NPY")
    return channels, height, width


def _open_image(
    payload: Payload, limits: Limits, mode: str, enough: tuple[int, int] | None
) -> Image.Image:
    """The decoded image, upright, in the mode asked for. Its header is judged before its pixels.

    A JPEG is decoded at a half, a quarter or an eighth of its size where that is still `enough`.
    """
    file = read_image_file(payload)
    try:
        with warnings.catch_warnings():
            # Pillow warns of a decompression bomb at its own limit; ours is asked here.
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(file.data), formats=["JPEG", "PNG"])
            _require_few_pixels(opened, limits)
            opened.draft(mode, enough)
            opened.load()
            image = _upright(_eight_bits(opened), file.orientation)
            return image if image.mode == mode else image.convert(mode)
    except Image.DecompressionBombError as error:
        raise Rejected(Code.TOO_LARGE, f"the image has too many pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise Rejected(
            Code.MALFORMED, "the image cannot be decoded: its header is broken"
        ) from error


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by EXIF's number of how it lies."""


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _require_few_pixels(image: Image.Image, limits: Limits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise Rejected(
            Code.TOO_LARGE,
            f"the image has {image.width} x {image.height} pixels;"
            f" at most {limits.max_pixels} are accepted",
        )
    if max(image.size) > limits.max_side:
        raise Rejected(
            Code.TOO_LARGE,
            f"the image has {image.width} x {image.height} pixels;"
            f" at most {limits.max_side} are accepted on a side",
        )


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image scaled to 8 bits; converting it would cut its values off."""
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.dtype != np.uint16:
            grey = np.clip(grey, 0, 0xFFFF).astype(np.uint16)
        # The nearest to a 257th, in whole numbers: floats would take eight times the memory.
        high, low = (grey >> 8).astype(np.uint8), grey.astype(np.uint8)
        apart = np.subtract(low, high, dtype=np.int16)
        high += apart > 128
        high -= apart < -128
        return Image.fromarray(high)
    return image


def _resized(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    match resize:
        case Resize.STRETCH:
            return image.resize(size, Image.Resampling.BILINEAR)
        case Resize.CROP:
            return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        case Resize.PAD:
            return _padded(image, size)
        case Resize.NONE:
            raise Rejected(
                Code.MALFORMED,
                f"the image has {image.width} x {image.height} pixels;"
                f" this engine takes {size[0]} x {size[1]} and does not resize",
            )


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Fitted into the middle of a black image; of a very thin one, a line of pixels is left."""
    width, height = size
    scale = min(width / image.width, height / image.height)
    fitted = image.resize(
        (max(1, round(scale * image.width)), max(1, round(scale * image.height))),
        Image.Resampling.BILINEAR,
    )
    padded = Image.new(image.mode, size)
    padded.paste(fitted, ((width - fitted.width) // 2, (height - fitted.height) // 2))
    return padded


def _normalised(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Pixels of shape (height, width, channels) as values in the input's shape.

    They are written once, where they stay: a picture's floats take longer to move than to reckon.
    """
    values = np.empty(spec.shape, np.float32)
    planes = values if spec.layout == "CHW" else values.transpose(2, 0, 1)
    # One mean or deviation may be given for all channels.
    means, deviations = (np.resize(given, len(planes)) for given in (spec.mean, spec.std))
    for channel in range(len(planes)):
        plane = planes[channel]
        np.multiply(pixels[:, :, channel], np.float32(1.0 / 255.0), out=plane)
        if spec.mean:
            plane -= np.float32(means[channel])
        if spec.std:
            plane /= np.float32(deviations[channel])
    return values


# Tensors.


def _decode_npy(payload: Payload, spec: InputSpec, _limits: Limits) -> Tensor:
    header = read_npy_header(payload)
    shape, dtype = header.shape, header.dtype
    if shape not in (spec.shape, (1, *spec.shape)):
        raise Rejected(
            Code.MALFORMED,
            f"the array's shape is {shape}; this engine takes {spec.shape} or {(1, *spec.shape)}",
        )
    size = math.prod(shape)
    if len(payload) - header.start != size * dtype.itemsize:
        raise Rejected(
            Code.MALFORMED,
            f"the array's shape asks for {size * dtype.itemsize} bytes of data;"
            f" there are {len(payload) - header.start}",
        )
    flat = np.frombuffer(payload, dtype, size, header.start)
    array = flat.reshape(shape, order="F" if header.fortran_order else "C")
    return _converted(array, np.dtype(spec.dtype)).reshape(1, *spec.shape)


def _converted(array: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """The same values in another dtype: floats are rounded to it, integers must be held by it."""
    # NumPy would warn of what is judged here.
    with np.errstate(over="ignore", invalid="ignore"):
        tensor = array.astype(dtype, copy=False)
        same = array.dtype == dtype or dtype.kind == "f" or bool((tensor == array).all())
    if not same:
        raise Rejected(Code.MALFORMED, f"the array holds values that are no {dtype}")
    if dtype.kind == "f" and not np.isfinite(tensor).all():
        raise Rejected(
            Code.MALFORMED, f"the array holds NaN, infinity or a number too large for {dtype}"
        )
    return tensor


# Sound.


def _decode_wav(payload: Payload, spec: InputSpec, _limits: Limits) -> Tensor:
    wanted = spec.shape[-1]
    if math.prod(spec.shape) != wanted:
        raise Rejected(Code.UNKNOWN_TYPE, "this engine's input is no row of samples: send an NPY")
    samples = sound.samples(payload, wanted, spec.sample_rate_hz)
    row = np.zeros(wanted, np.float32)
    row[: len(samples)] = samples
    if spec.mean:
        row -= spec.mean[0]
    if spec.std:
        row /= spec.std[0]
    return row.astype(spec.dtype, copy=False).reshape(1, *spec.shape)


_DECODERS: dict[str, Callable[[Payload, InputSpec, Limits], Tensor]] = {
    _JPEG: _decode_image,
    _PNG: _decode_image,
    _NPY: _decode_npy,
    _WAV: _decode_wav,
}
