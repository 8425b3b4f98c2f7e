"""A double of `pycuda.driver`: nothing on a stream runs before the stream is waited for."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tests.doubles.board import UNWRITTEN, Board, RuleBrokenError, Transfer, Work

_handles = itertools.count(1000)


class Error(Exception):
    pass


class LogicError(Error):
    pass


class MemoryError(Error):
    pass


class device_attribute:
    INTEGRATED = "INTEGRATED"
    MULTIPROCESSOR_COUNT = "MULTIPROCESSOR_COUNT"


class host_alloc_flags:
    DEVICEMAP = 2


def driver_double(board: Board) -> ModuleType:
    """The module `pycuda.driver`, for one board."""
    module = ModuleType("pycuda.driver", "A double of PyCUDA's driver module.")
    initialised: list[bool] = []

    def init(flags: int = 0) -> None:
        if not board.devices:
            raise LogicError("cuInit failed: no CUDA-capable device is detected")
        initialised.append(True)

    class Device:
        def __init__(self, ordinal: int) -> None:
            if not initialised:
                raise RuleBrokenError("cuInit comes first")
            if ordinal >= board.devices:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        @staticmethod
        def count() -> int:
            return board.devices

        def name(self) -> str:
            return "Double"

        def compute_capability(self) -> tuple[int, int]:
            return (8, 7)

        def get_attribute(self, attr: str) -> int:
            return {"INTEGRATED": int(board.unified), "MULTIPROCESSOR_COUNT": 8}[attr]

        def retain_primary_context(self) -> Context:
            board.retained += 1
            return Context()

    class Context:
        def __init__(self) -> None:
            self._valid = True

        def push(self) -> None:
            board.stack.append(self)

        @staticmethod
        def pop() -> None:
            board.stack.pop()

        def detach(self) -> None:
            if not self._valid:
                raise LogicError("cannot detach from invalid context")
            if self in board.stack:
                raise RuleBrokenError("the context is given up while it is current")
            self._valid = False
            board.retained -= 1

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            self._alive = board.streams
            self._number = next(_handles)
            board.require_context()
            self.pending: list[Work] = []
            self.recorded: list[Work] | None = None
            board.streams[self._number] = weakref.proxy(self)

        def __del__(self) -> None:
            self._alive.pop(self._number, None)

        @property
        def handle(self) -> int:
            return self._number

        def synchronize(self) -> None:
            board.require_context()
            if self.recorded is not None:
                raise RuleBrokenError("a stream that is recorded cannot be waited for")
            board.synchronisations += 1
            if board.fails_after is not None:
                board.fails_after -= 1
                if board.fails_after < 0:
                    raise LogicError("cuStreamSynchronize failed: an illegal memory access")
            pending, self.pending = self.pending, []
            for work in pending:
                work.run()

    class DeviceAllocation:
        def __init__(self, address: int) -> None:
            self._address = address

        def __int__(self) -> int:
            return self._address

        def free(self) -> None:
            board.free(self._address)

    class PagelockedHostAllocation:
        def __init__(self, shape: Sequence[int], dtype: DTypeLike, flags: int) -> None:
            array = np.zeros(tuple(shape), dtype)
            self.content = array.reshape(-1).view(np.uint8)
            self.content[:] = UNWRITTEN
            board.pin(self.content)
            is_mapped = flags & host_alloc_flags.DEVICEMAP
            self._address = board.reserve(self.content) if is_mapped else None
            # What NumPy makes of this has the allocation for its base, as in the library.
            self.__array_interface__ = array.__array_interface__

        def get_device_pointer(self) -> int:
            if self._address is None:
                raise LogicError("cuMemHostGetDevicePointer failed: not mapped")
            return self._address

        def free(self) -> None:
            board.unpin(self.content)
            if self._address is not None:
                board.free(self._address)

    def mem_alloc(bytes: int) -> DeviceAllocation:
        if board.allocated + bytes > board.memory_limit:
            raise MemoryError("cuMemAlloc failed: out of memory")
        return DeviceAllocation(board.allocate(bytes))

    def pagelocked_empty(
        shape: Sequence[int],
        dtype: DTypeLike,
        order: str = "C",
        mem_flags: int = 0,
    ) -> NDArray[np.generic]:
        return np.asarray(PagelockedHostAllocation(shape, dtype, mem_flags))

    def memcpy_htod_async(dest: int, src: NDArray[Any], stream: Any = None) -> None:
        board.require_pinned(src)
        board.view(dest, src.nbytes)

        def run() -> None:
            board.view(dest, src.nbytes)[:] = src.reshape(-1).view(np.uint8)
            board.transfers.append(Transfer(to_host=False, size=src.nbytes))

        _enqueue(board, stream, run)

    def memcpy_dtoh_async(dest: NDArray[Any], src: int, stream: Any = None) -> None:
        board.require_pinned(dest)
        board.view(src, dest.nbytes)

        def run() -> None:
            dest.reshape(-1).view(np.uint8)[:] = board.view(src, dest.nbytes)
            board.transfers.append(Transfer(to_host=True, size=dest.nbytes))

        _enqueue(board, stream, run)

    def memcpy_dtod_async(dest: int, src: int, size: int, stream: Any = None) -> None:
        board.view(src, size), board.view(dest, size)

        def run() -> None:
            board.view(dest, size)[:] = board.view(src, size).copy()
            board.device_copies += 1

        _enqueue(board, stream, run)

    for name, value in list(locals().items()):
        if name not in {"board", "module", "initialised", "name", "value"}:
            setattr(module, name, value)
    for value in (Error, LogicError, MemoryError, device_attribute, host_alloc_flags):
        setattr(module, value.__name__, value)
    return module


def _enqueue(board: Board, stream: Any, run: Any) -> None:
    board.require_context()
    if stream is None:
        raise RuleBrokenError("the default stream waits for all others: name one")
    put(stream, Work(run=run))


def put(stream: Any, work: Work) -> None:
    """Puts work on a stream, or into the graph that is recorded from it."""
    (stream.pending if stream.recorded is None else stream.recorded).append(work)
