"""The memory that this process takes of the machine's."""

from __future__ import annotations

import ctypes

import psutil

MAPPED_BYTES = 2**23
"""From how many bytes on a block is mapped by itself, and goes back when it is freed. A picture of
640 x 640 pixels stays below it: mapping one takes twice as long as decoding it."""

KEPT_BYTES = 2**24
"""How much that is free at the end of a heap is kept, in each thread's, until it is given back."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's, from malloc.h."""


def keep_little() -> None:
    """Has the C library keep little of what is freed, whatever was freed before.

    glibc raises both limits with each larger block that is freed, up to 32 and 64 MB: once an
    engine was closed, the next lies among small blocks, and every thread keeps what its largest
    burst took. To be called before there are other threads.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back() -> None:
    """Gives memory that was freed back to the machine, which the C library keeps for later.

    Of a closed engine that took 275 MB nothing went back by itself. glibc alone can be told;
    others do as they see fit. Takes some 80 ms after such an engine.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def settled_bytes() -> int:
    """The resident memory, once what was freed has gone back."""
    give_back()
    return int(psutil.Process().memory_info().rss)
