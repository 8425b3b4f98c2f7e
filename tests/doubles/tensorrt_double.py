"""A double of `tensorrt`: a plan holds its stage's ONNX, and runs on the host, by ONNX Runtime."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

from tests.doubles.board import ALIGNMENT, Board, RuleBrokenError, Work
from tests.doubles.pycuda_double import put

MAGIC = b"a plan of the double's\n"


class Value:
    """A member of one of the bindings' enumerations: equal to its like, but not the same object."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self._number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (self.name, self._number) == (
            other.name,
            other._number,
        )

    def __hash__(self) -> int:
        return hash((self.name, self._number))

    def __int__(self) -> int:
        return self._number


def _enumeration(name: str, *members: str) -> type:
    return type(name, (), {member: Value(member, number) for number, member in enumerate(members)})


DataType: Any = _enumeration("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "INT64")
TensorIOMode: Any = _enumeration("TensorIOMode", "NONE", "INPUT", "OUTPUT")
ExecutionContextAllocationStrategy: Any = _enumeration(
    "ExecutionContextAllocationStrategy", "STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"
)
MemoryPoolType: Any = _enumeration("MemoryPoolType", "WORKSPACE")

_TYPES = {
    "tensor(float)": (DataType.FLOAT, np.float32),
    "tensor(float16)": (DataType.HALF, np.float16),
    "tensor(int8)": (DataType.INT8, np.int8),
    "tensor(int32)": (DataType.INT32, np.int32),
    "tensor(int64)": (DataType.INT64, np.int64),
    "tensor(bool)": (DataType.BOOL, np.bool_),
    "tensor(uint8)": (DataType.UINT8, np.uint8),
}


def nptype(trt_type: Value) -> Any:
    return dict(_TYPES.values())[trt_type]


class Dims:
    def __init__(self, shape: Sequence[int] = ()) -> None:
        self.sizes = tuple(shape)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> int:
        return self.sizes[index]


class ILogger:
    Severity: Any = _enumeration(
        "Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"
    )

    def __init__(self) -> None:
        pass

    def log(self, severity: Value, msg: str) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    """Bytes, as the bindings' is a buffer."""

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        return len(self)


def plan_of(
    model: bytes, profiles: Sequence[Sequence[Sequence[int]]], *, version: str, error: float = 0.0
) -> IHostMemory:
    """A serialised plan of the double's."""
    header = {"profiles": profiles, "version": version, "error": error}
    return IHostMemory(MAGIC + json.dumps(header).encode() + b"\n" + model)


def session_of(model: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tensorrt_double(board: Board, version: str = "10.3.0") -> ModuleType:
    """The module `tensorrt` of a version, for one board."""
    module = ModuleType("tensorrt", "A double of TensorRT.")

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
            board.require_context()
            head, _, rest = bytes(serialized_engine).partition(b"\n")
            if head + b"\n" != MAGIC:
                self._logger.log(ILogger.Severity.ERROR, "magic tag does not match")
                return None
            header, _, model = rest.partition(b"\n")
            document = json.loads(header)
            if document["version"] != version:
                self._logger.log(ILogger.Severity.ERROR, "serialization version does not match")
                return None
            return ICudaEngine(model, document, self._logger)

    class ICudaEngine:
        def __init__(self, model: bytes, header: dict[str, Any], logger: ILogger) -> None:
            self.session = session_of(model)
            self.header = header
            self.logger = logger
            self._inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
            self._outputs = {tensor.name: tensor for tensor in self.session.get_outputs()}
            self.tensors = self._inputs | self._outputs
            board.live_engines += 1

        def __del__(self) -> None:
            board.live_engines -= 1
            board.note_end()

        @property
        def num_io_tensors(self) -> int:
            return len(self.tensors)

        @property
        def num_optimization_profiles(self) -> int:
            return max(1, len(self.header["profiles"]))

        @property
        def device_memory_size_v2(self) -> int:
            return 1024 * (1 + len(self._outputs))

        def get_tensor_name(self, index: int) -> str:
            return str(list(self.tensors)[index])

        def get_tensor_mode(self, name: str) -> Any:
            mode = TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT
            return copy.copy(mode)

        def get_tensor_shape(self, name: str) -> Dims:
            shape = self.tensors[name].shape
            return Dims([size if isinstance(size, int) else -1 for size in shape])

        def get_tensor_dtype(self, name: str) -> Any:
            return copy.copy(_TYPES[self.tensors[name].type][0])

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
            if name not in self._inputs:
                raise RuleBrokenError("only inputs have shapes in a profile")
            if not self.header["profiles"]:
                raise RuleBrokenError("what has one shape alone has none in a profile")
            return [Dims(shape) for shape in self.header["profiles"][profile_index]]

        def create_execution_context(
            self, strategy: Any = ExecutionContextAllocationStrategy.STATIC
        ) -> IExecutionContext | None:
            board.require_context()
            board.contexts += 1
            if strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
                board.allocations += 1
            return IExecutionContext(self, strategy)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine, strategy: Any) -> None:
            self._engine = engine
            self._has_own_scratch = strategy != ExecutionContextAllocationStrategy.USER_MANAGED
            self._has_scratch = self._has_own_scratch
            self._addresses: dict[str, int] = {}
            self._profile = 0
            self._shape: tuple[int, ...] | None = None
            self._changes = 0
            self._settled_at = -1
            board.live_contexts += 1

        def __del__(self) -> None:
            board.live_contexts -= 1
            board.note_end()

        def set_device_memory(self, memory: int, size: int) -> None:
            if self._has_own_scratch:
                raise RuleBrokenError("a context that has memory of its own is given some")
            if memory % ALIGNMENT or size < self._engine.device_memory_size_v2:
                raise RuleBrokenError("the scratch is misaligned or too small")
            board.view(memory, size)
            self._has_scratch = True
            self._changes += 1

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            self._require_stream(stream_handle)
            self._profile, self._shape = profile_index, None
            self._changes += 1
            return profile_index < self._engine.num_optimization_profiles

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            smallest = largest = self._engine.get_tensor_shape(name).sizes
            if min(largest) < 0:
                profile = self._engine.get_tensor_profile_shape(name, self._profile)
                smallest, largest = profile[0].sizes, profile[2].sizes
            fits = len(shape) == len(largest) and all(
                low <= size <= high
                for low, size, high in zip(smallest, shape, largest, strict=True)
            )
            if not fits:
                return self._fail(f"the shape {shape} is outside the profile {self._profile}")
            self._shape = tuple(shape)
            self._changes += 1
            return True

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if name not in self._engine.tensors:
                return self._fail(f"there is no tensor {name}")
            if memory % ALIGNMENT:
                raise RuleBrokenError(f"the address of {name} is not aligned")
            board.view(memory, 1)
            self._addresses[name] = memory
            self._changes += 1
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            stream = self._require_stream(stream_handle)
            missing = set(self._engine.tensors) - set(self._addresses)
            if missing:
                raise RuleBrokenError(f"no address is set for {', '.join(sorted(missing))}")
            if not self._has_scratch:
                raise RuleBrokenError("the context has no device memory")
            if self._shape is None:
                return self._fail("the shape of the input is not set")
            changes = self._changes
            if stream.recorded is not None and self._settled_at != changes:
                return self._fail("a context must run once, after a change, before it is recorded")
            if stream.recorded is not None and board.breaks_recording:
                return self._fail("operation not permitted when stream is capturing")
            self._settled_at = changes
            shape, addresses = self._shape, dict(self._addresses)

            def check() -> None:
                if self._changes != changes:
                    raise RuleBrokenError("the context was changed after it was recorded")

            put(stream, Work(run=lambda: self._run(shape, addresses), check=check))
            return True

        def _run(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
            board.stage_runs += 1
            session, tensors = self._engine.session, self._engine.tensors
            (source,) = session.get_inputs()
            dtype = np.dtype(_TYPES[source.type][1])
            size = int(np.prod(shape)) * dtype.itemsize
            given = board.view(addresses[source.name], size).copy().view(dtype).reshape(shape)
            names = [tensor.name for tensor in session.get_outputs()]
            for name, array in zip(names, session.run(names, {source.name: given}), strict=True):
                wrong = array * (1.0 + self._engine.header["error"])
                content: Any = np.ascontiguousarray(wrong, _TYPES[tensors[name].type][1])
                flat = content.reshape(-1).view(np.uint8)
                board.view(addresses[name], len(flat))[:] = flat

        def _require_stream(self, handle: int) -> Any:
            board.require_context()
            if handle not in board.streams:
                raise RuleBrokenError("work is put on a stream that is not there")
            return board.streams[handle]

        def _fail(self, sentence: str) -> bool:
            self._engine.logger.log(ILogger.Severity.ERROR, sentence)
            return False

    classes: list[Any] = [Runtime, ICudaEngine, IExecutionContext, Dims, ILogger, IHostMemory]
    for value in (*classes, DataType, TensorIOMode):
        setattr(module, value.__name__, value)
    module.ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy  # type: ignore[attr-defined]
    module.MemoryPoolType = MemoryPoolType  # type: ignore[attr-defined]
    module.nptype = nptype  # type: ignore[attr-defined]
    module.__version__ = version  # type: ignore[attr-defined]
    from tests.doubles.builder_double import add_builder  # noqa: PLC0415 - it needs this module

    add_builder(module, board, version)
    return module


def built_for(path: Path, model: Path, profiles: Sequence[Sequence[Sequence[int]]]) -> None:
    """Writes a plan of an ONNX file, as if it had been built by the double's default version."""
    path.write_bytes(plan_of(model.read_bytes(), profiles, version="10.3.0"))
