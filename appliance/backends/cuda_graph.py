"""Work recorded once as a CUDA graph and launched as a whole, by the driver's own functions.

PyCUDA has none for graphs: these few are called in the library that it has loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from appliance.errors import EngineError

LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile does not disturb."""


class CudaGraph:
    """A recorded graph, ready to be launched on the stream that it was recorded on."""

    def __init__(self, library: Any, executable: ctypes.c_void_p, stream: int) -> None:
        self._library = library
        self._executable = executable
        self._stream = ctypes.c_void_p(stream)

    def launch(self) -> None:
        """Enqueues the recorded work. Raises EngineError."""
        _require(self._library.cuGraphLaunch(self._executable, self._stream), "cuGraphLaunch")

    def close(self) -> None:
        self._library.cuGraphExecDestroy(self._executable)


def record(stream: int, enqueue: Callable[[], None]) -> CudaGraph:
    """Records what `enqueue` puts on a stream, none of which runs yet.

    Raises EngineError where the work cannot be recorded; the stream can be used as before.
    """
    library = _load()
    handle, graph = ctypes.c_void_p(stream), ctypes.c_void_p()
    began = library.cuStreamBeginCapture_v2(handle, ctypes.c_int(_THREAD_LOCAL))
    _require(began, "cuStreamBeginCapture")
    executable = ctypes.c_void_p()
    try:
        try:
            enqueue()
        finally:
            ended = library.cuStreamEndCapture(handle, ctypes.byref(graph))
        _require(ended, "cuStreamEndCapture")
        made = library.cuGraphInstantiateWithFlags(
            ctypes.byref(executable), graph, ctypes.c_ulonglong(0)
        )
        _require(made, "cuGraphInstantiateWithFlags")
    finally:
        # A recording that was broken off gives none.
        if graph:
            library.cuGraphDestroy(graph)
    return CudaGraph(library, executable, stream)


def _load() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise EngineError(f"there are no CUDA graphs without {LIBRARY}: {error}") from error


def _require(result: int, function: str) -> None:
    if result != 0:
        raise EngineError(f"{function} failed with CUDA error {result}")
