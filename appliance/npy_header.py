"""The header of an NPY file of plain numbers.

NumPy's own reader tries a header that it cannot read once more with Python 2's numbers taken out,
in a time that grows with the square of its blanks: thirteen seconds for nine kilobytes.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.errors import Code, Rejected

NPY_START = b"\x93NUMPY"

MAX_HEADER_BYTES = 1_024
"""NumPy writes 118 for an array of plain numbers."""

_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""By the version of the format, in how many bytes the header's length is written."""

_KEYS = frozenset({"descr", "fortran_order", "shape"})


@dataclass(frozen=True, kw_only=True, slots=True)
class NpyHeader:
    """What the numbers are, and the byte at which they start."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    start: int


def read_npy_header(payload: bytes | bytearray) -> NpyHeader:
    """The header of a payload that starts as an NPY does. Raises Rejected."""
    version = (*payload[6:8],)
    if version not in _LENGTH_BYTES:
        raise Rejected(Code.MALFORMED, f"an NPY of version {version} is not known")
    begin = 8 + _LENGTH_BYTES[version]
    length = int.from_bytes(payload[8:begin], "little")
    if length > MAX_HEADER_BYTES:
        raise Rejected(
            Code.MALFORMED,
            f"the NPY's header has {length} bytes; at most {MAX_HEADER_BYTES} are read",
        )
    return _parsed(bytes(payload[begin : begin + length]), begin + length)


# A sensor's headers are all the same, and reading one takes as long as a small stage.
@functools.lru_cache(maxsize=64)
def _parsed(header: bytes, start: int) -> NpyHeader:
    try:
        # A literal alone: nothing in it is called or looked up.
        fields = ast.literal_eval(header.decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise _malformed("is no dictionary") from error
    if not isinstance(fields, dict) or fields.keys() != _KEYS:
        raise _malformed(f"is no dictionary of {', '.join(sorted(_KEYS))}")
    shape, fortran_order = fields["shape"], fields["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
        raise _malformed("says a shape that is no tuple of whole numbers")
    if not isinstance(fortran_order, bool):
        raise _malformed("says neither True nor False for fortran_order")
    return NpyHeader(
        shape=shape, fortran_order=fortran_order, dtype=_dtype(fields["descr"]), start=start
    )


def _dtype(description: object) -> np.dtype[Any]:
    try:
        dtype = np.dtype(description) if isinstance(description, str) else None
    except (TypeError, ValueError, SyntaxError) as error:
        raise _malformed("says a dtype that is none") from error
    if dtype is None or dtype.kind not in "buif":
        said = str(description if dtype is None else dtype)[:80]
        raise Rejected(
            Code.MALFORMED, f"the array's dtype is {said}: only plain numbers are accepted"
        )
    return dtype


def _malformed(fault: str) -> Rejected:
    return Rejected(Code.MALFORMED, f"the NPY cannot be decoded: its header {fault}")
