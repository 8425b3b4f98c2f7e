"""One stage on TensorRT: its plan, and a context and a CUDA graph for each batch size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorrt as trt

from appliance.backends import cuda_graph
from appliance.backends.cuda import CudaDevice
from appliance.backends.cuda_graph import CudaGraph
from appliance.backends.protocol import FEATURES, INPUT, OUTPUT
from appliance.backends.tensorrt_log import LOG
from appliance.errors import EngineError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemSpec:
    """One item of a tensor: its shape without the batch axis, and its type."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """In bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class StageMemory:
    """Where a stage reads and writes: the address of each tensor, and scratch that all share."""

    addresses: Mapping[str, int]
    scratch: int
    scratch_size: int


class TensorRTStage:
    """Runs one stage from addresses and in shapes that are set once, when it is bound.

    Each batch size has a context of its own: to change a context that a graph was recorded from
    would break the graph, so TensorRT's guide has one for each graph, and all on one scratch.
    Raises EngineError where the plan cannot be opened or is no stage.
    """

    def __init__(self, path: Path, runtime: trt.Runtime, *, is_last: bool) -> None:
        self._path = path
        self._contexts: dict[int, trt.IExecutionContext] = {}
        self._graphs: dict[int, CudaGraph] = {}
        self._engine = _deserialise(path, runtime)
        self._names = _tensors(path, self._engine, is_last=is_last)
        self.input = self._item(INPUT)
        self.output = self._item(OUTPUT)
        self.features = None if is_last else self._item(FEATURES)
        self.largest_batch = max(self._largest_batches())
        if self._fixed_batch > 1:
            raise EngineError(
                f"{path} takes batches of {self._fixed_batch} alone: export it with a dynamic batch"
                " axis"
            )

    @property
    def scratch_size(self) -> int:
        """Bytes that a context needs while it runs."""
        return self._engine.device_memory_size_v2

    def bind(self, device: CudaDevice, capacity: int, memory: StageMemory) -> None:
        """Makes the contexts, for batches of 1 to `capacity` items in this memory."""
        for count in range(1, capacity + 1):
            context = self._engine.create_execution_context(
                trt.ExecutionContextAllocationStrategy.USER_MANAGED
            )
            if context is None:
                raise EngineError(f"{self._path} gets no context: {LOG.take_error()}")
            context.set_device_memory(memory.scratch, memory.scratch_size)
            profile = self._profile_for(count)
            self._require(context.set_optimization_profile_async(profile, device.stream))
            self._require(context.set_input_shape(INPUT, (count, *self.input.shape)))
            for name in self._names:
                self._require(context.set_tensor_address(name, memory.addresses[name]))
            self._contexts[count] = context

    def record(self, device: CudaDevice) -> None:
        """Records a graph for each batch size; without graphs where one cannot be recorded.

        A context must have run once before it can be recorded: the first run settles its state.
        """
        try:
            for count in self._contexts:
                self._execute(count, device.stream)
                device.synchronize()
                enqueue = partial(self._execute, count, device.stream)
                self._graphs[count] = cuda_graph.record(device.stream, enqueue)
        except EngineError as error:
            self._close_graphs()
            # As a string: a log record would keep the error, and with it what its frames refer to.
            _log.info("%s runs without CUDA graphs: %s", self._path, str(error))

    def enqueue(self, count: int, stream: int) -> None:
        """Puts a run for the first `count` items on the stream. Raises EngineError."""
        graph = self._graphs.get(count)
        if graph is None:
            self._execute(count, stream)
        else:
            graph.launch()

    def close(self) -> None:
        """Gives up graphs and contexts; what they used may be freed afterwards."""
        self._close_graphs()
        self._contexts.clear()

    def _execute(self, count: int, stream: int) -> None:
        self._require(self._contexts[count].execute_async_v3(stream))

    def _close_graphs(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()

    def _require(self, done: bool) -> None:  # noqa: FBT001 - what TensorRT's functions return
        if not done:
            raise EngineError(f"{self._path} failed: {LOG.take_error()}")

    def _profile_for(self, count: int) -> int:
        """The optimisation profile for a batch: the one with the least largest batch above it."""
        largest = self._largest_batches()
        return min((size, number) for number, size in enumerate(largest) if size >= count)[1]

    def _largest_batches(self) -> list[int]:
        """Of each optimisation profile, in the plan's order."""
        if self._fixed_batch > 0:
            return [self._fixed_batch]
        profiles = range(self._engine.num_optimization_profiles)
        return [self._engine.get_tensor_profile_shape(INPUT, number)[2][0] for number in profiles]

    @property
    def _fixed_batch(self) -> int:
        """The one batch size that the plan takes, or -1 where it takes several."""
        return self._engine.get_tensor_shape(INPUT)[0]

    def _item(self, name: str) -> ItemSpec:
        shape = tuple(self._engine.get_tensor_shape(name))[1:]
        if any(size < 0 for size in shape):
            raise EngineError(
                f"{self._path}: the shape of {name} is not fixed beyond the batch: export the"
                " stage with a fixed size"
            )
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        return ItemSpec(shape=shape, dtype=dtype)


def start_runtime() -> trt.Runtime:
    """What opens plans. Raises EngineError where TensorRT does not start in this context."""
    try:
        return trt.Runtime(LOG)
    except TypeError as error:
        # What the bindings make of a null pointer.
        raise EngineError(f"TensorRT does not start: {LOG.take_error()}") from error


def _deserialise(path: Path, runtime: trt.Runtime) -> trt.ICudaEngine:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error}") from error
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"{path} cannot be opened by TensorRT ({LOG.take_error()}): build it anew with `delen"
            " compile`"
        )
    return engine


def _tensors(path: Path, engine: trt.ICudaEngine, *, is_last: bool) -> list[str]:
    """The names of the plan's tensors. Raises EngineError where they are not a stage's."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    wanted = [INPUT, OUTPUT] if is_last else [INPUT, OUTPUT, FEATURES]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    if inputs != [INPUT] or sorted(names) != sorted(wanted):
        raise EngineError(
            f"{path}: the tensors are {', '.join(names)}; a stage here has {', '.join(wanted)}"
        )
    return names
