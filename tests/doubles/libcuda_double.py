"""A double of the driver library's functions for graphs, as `ctypes` calls them."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

from tests.doubles.board import Board, RuleBrokenError, Work
from tests.doubles.pycuda_double import put

SUCCESS = 0
UNSUPPORTED = 900
THREAD_LOCAL = 1

_handles = itertools.count(5000)


class LibcudaDouble:
    """What `ctypes.CDLL("libcuda.so.1")` gives, for one board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: ctypes.c_int) -> int:
        self._board.require_context()
        if mode.value != THREAD_LOCAL:
            raise RuleBrokenError("what another thread does would break the recording")
        if not self._board.captures:
            return UNSUPPORTED
        self._board.captures -= 1
        self._stream(stream).recorded = []
        return SUCCESS

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:
        recorded, self._stream(stream).recorded = self._stream(stream).recorded, None
        graph._obj.value = handle = next(_handles)
        self._board.graphs[handle] = recorded
        return SUCCESS

    def cuGraphInstantiateWithFlags(
        self,
        executable: Any,
        graph: ctypes.c_void_p,
        flags: ctypes.c_ulonglong,
    ) -> int:
        executable._obj.value = handle = next(_handles)
        self._board.executables[handle] = list(self._board.graphs[graph.value or 0])
        return SUCCESS

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        del self._board.graphs[graph.value or 0]
        return SUCCESS

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        self._board.require_context()
        self._board.graph_launches += 1
        work: Work
        for work in self._board.executables[executable.value or 0]:
            work.check()
            put(self._stream(stream), work)
        return SUCCESS

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:
        self._board.require_context()
        del self._board.executables[executable.value or 0]
        return SUCCESS

    def _stream(self, handle: ctypes.c_void_p) -> Any:
        return self._board.streams[handle.value or 0]
