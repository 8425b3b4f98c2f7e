"""The double of a board with a GPU: its memory, contexts and streams, and what was asked of it."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
UNWRITTEN = 0x7F
"""What fills memory that nobody has written to: as floats, larger than any stage here can take."""


class RuleBrokenError(AssertionError):
    """The code under test did what the real library forbids, or what it leaves undefined."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A copy between the host and the device that ran."""

    to_host: bool
    size: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What stands on a stream: done when the stream is waited for, and no sooner."""

    run: Callable[[], None]
    check: Callable[[], None] = lambda: None
    """Asked again at each launch of a graph that the work was recorded in."""


@dataclass(kw_only=True)
class Board:
    """One GPU. A test reads the counts; `is_clean` says whether everything was given back once."""

    unified: bool = True
    captures: int = 10**6
    """How many CUDA graphs can be recorded."""
    devices: int = 1
    memory_limit: int = 2**30
    error: float = 0.0
    """How far plans that are built from now on are off, as a fraction of every output."""

    breaks_recording: bool = False
    """Whether a plan does what cannot be recorded."""
    fails_after: int | None = None
    """How many waits from now on the device fails at one."""

    transfers: list[Transfer] = field(default_factory=list)
    device_copies: int = 0
    synchronisations: int = 0
    allocations: int = 0
    contexts: int = 0
    stage_runs: int = 0
    graph_launches: int = 0
    streams: dict[int, Any] = field(default_factory=dict)
    graphs: dict[int, Any] = field(default_factory=dict)
    executables: dict[int, Any] = field(default_factory=dict)
    calibration_batches: list[NDArray[Any]] = field(default_factory=list)
    configurations: list[Any] = field(default_factory=list)
    """What each plan was built by."""
    retained: int = 0
    live_engines: int = 0
    live_contexts: int = 0
    late: int = 0
    """Plans and contexts that were given up when no CUDA context was current any more."""
    _memory: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    _pinned: dict[int, int] = field(default_factory=dict)
    _next: int = 0x7000_0000_0000
    _current: threading.local = field(default_factory=threading.local)

    # Contexts.

    @property
    def stack(self) -> list[Any]:
        """The contexts that the calling thread has pushed."""
        if not hasattr(self._current, "stack"):
            self._current.stack = []
        stack: list[Any] = self._current.stack
        return stack

    def require_context(self) -> None:
        if not self.stack:
            raise RuleBrokenError("no CUDA context is current in this thread")

    def note_end(self) -> None:
        """A plan or a context ends, where nothing can be raised."""
        self.late += not self.stack

    # Memory.

    def allocate(self, size: int) -> int:
        self.require_context()
        address = self.reserve(np.full(size, UNWRITTEN, np.uint8))
        self.allocations += 1
        return address

    def reserve(self, content: NDArray[np.uint8]) -> int:
        """Gives bytes an address on the device, aligned as CUDA aligns."""
        address = self._next
        self._next += -(-max(len(content), 1) // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        self._memory[address] = content
        return address

    @property
    def allocated(self) -> int:
        return sum(len(content) for content in self._memory.values())

    def free(self, address: int) -> None:
        self.require_context()
        if any(stream.pending for stream in self.streams.values()):
            raise RuleBrokenError("memory is freed that work on a stream may still use")
        if self._memory.pop(address, None) is None:
            raise RuleBrokenError("memory is freed that was freed before, or never was taken")

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address, which must all lie in one allocation."""
        bases = sorted(self._memory)
        position = bisect_right(bases, address) - 1
        if position >= 0:
            content = self._memory[bases[position]]
            start = address - bases[position]
            if start + size <= len(content):
                return content[start : start + size]
        raise RuleBrokenError(f"{size} bytes at {address:#x} are not allocated")

    def pin(self, array: NDArray[np.uint8]) -> None:
        self.require_context()
        self._pinned[array.ctypes.data] = array.nbytes
        self.allocations += 1

    def unpin(self, array: NDArray[np.uint8]) -> None:
        self.require_context()
        if self._pinned.pop(array.ctypes.data, None) is None:
            raise RuleBrokenError("pinned memory is freed twice")

    def require_pinned(self, array: NDArray[Any]) -> None:
        if not array.flags.c_contiguous:
            raise RuleBrokenError("an asynchronous copy needs contiguous memory")
        start = array.ctypes.data
        for base, size in self._pinned.items():
            if base <= start and start + array.nbytes <= base + size:
                return
        raise RuleBrokenError("an asynchronous copy needs pinned memory: this is pageable")

    # The end.

    @property
    def is_clean(self) -> bool:
        """Whether all memory, streams, graphs, plans and contexts were given back."""
        return not any(
            (
                self._memory,
                self._pinned,
                self.streams,
                self.graphs,
                self.executables,
                self.retained,
                self.live_engines,
                self.live_contexts,
                self.late,
                self.stack,
            )
        )
