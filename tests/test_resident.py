"""The memory that the C library keeps of what is freed."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

MB = 1e6

KEPT = """
import ctypes
import psutil
from appliance import resident

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def block(size_bytes):
    at = libc.malloc(size_bytes)
    ctypes.memset(at, 1, size_bytes)
    return at


{first}
# An engine's weights: with the limits that glibc moves, blocks as large are no longer mapped.
libc.free(block(30_000_000))
before_bytes = psutil.Process().memory_info().rss
frames = [block(10_000_000) for _ in range(3)]
last = block(100_000)
for frame in frames:
    libc.free(frame)
print(psutil.Process().memory_info().rss - before_bytes)
"""


def kept_bytes(first: str) -> int:
    """What of 30 MB stays resident after they were freed below a block that is in use."""
    command = [sys.executable, "-c", KEPT.format(first=first)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the limits are glibc's"
)
def test_what_a_burst_took_goes_back_although_a_larger_engine_was_closed_before() -> None:
    assert kept_bytes("pass") > 25 * MB

    kept = kept_bytes("resident.keep_little()")

    assert kept < 2 * MB
