"""What an application has as a frame into the bytes of one, with their content type."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.errors import FrameError

Frame = bytes | bytearray | memoryview | str | os.PathLike[str] | Image.Image | NDArray[Any]
"""Bytes of a file as they are, the path of one, a picture, or an array that is the ready input."""

CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".npy": "application/x-npy",
    ".wav": "audio/wav",
}
"""What a file's suffix says of it; of the others the appliance looks at the first bytes."""

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
"""What Pillow writes as PNG as it is; the other modes become RGB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """A frame as it is sent."""

    frame: bytes
    content_type: str | None
    """None: the appliance tells by the first bytes."""


def payload_of(frame: Frame) -> Payload:
    """The bytes of a frame. A picture is sent as PNG, without loss, an array as NPY.

    Whatever numpy takes for an array is one, so that tensors of other libraries will do.
    Raises FrameError for a file that cannot be read, and for what is no frame.
    """
    if isinstance(frame, bytes | bytearray | memoryview):
        return Payload(frame=bytes(frame), content_type=None)
    if isinstance(frame, str | os.PathLike):
        return _file(Path(frame))
    if isinstance(frame, Image.Image):
        return _picture(frame)
    if hasattr(frame, "__array__"):
        return _array(np.asarray(frame))
    raise FrameError(
        f"{type(frame).__name__} is no frame: give bytes (of an open file, its read()), a path,"
        " a numpy array or a PIL image"
    )


def _file(path: Path) -> Payload:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise FrameError(f"{path} cannot be read: {error}") from error
    return Payload(frame=content, content_type=CONTENT_TYPES.get(path.suffix.lower()))


def _picture(picture: Image.Image) -> Payload:
    file = io.BytesIO()
    try:
        fitting = picture if picture.mode in _PNG_MODES else picture.convert("RGB")
        fitting.save(file, "PNG", compress_level=1)
    except (OSError, ValueError) as error:
        raise FrameError(f"the picture cannot be written as PNG: {error}") from error
    return Payload(frame=file.getvalue(), content_type="image/png")


def _array(array: NDArray[Any]) -> Payload:
    if array.dtype.hasobject:
        raise FrameError("an array of objects is no frame: give numbers, as float32 or uint8")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return Payload(frame=file.getvalue(), content_type="application/x-npy")
