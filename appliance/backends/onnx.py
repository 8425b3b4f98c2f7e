"""Stages on ONNX Runtime: a session each, and features that stay in its own tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from typing_extensions import Self

from appliance.backends.protocol import FEATURES, INPUT, OUTPUT, run_one_by_one
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.external_weights import refuse_strays

# What runs here is its tenants' business alone.
ort.disable_telemetry_events()

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
"""ONNX Runtime's names of what it runs a session on."""


class OnnxBackend:
    """Runs an engine's ONNX stages, on the CPU or on another provider of ONNX Runtime's.

    A batch of one goes from stage to stage without a copy; a batch of several is joined once
    before a stage and handed on as views of its output, on the host whatever the provider.
    `threads` work on one stage, by default all cores but one, which is left to the network and
    the decoding. What `provider` has no kernel for runs on the CPU. The stages are read where the
    backend is made, so that the executor's thread need not wait for it: nothing in them is bound
    to a thread. Raises EngineError where a stage cannot be opened.
    """

    enqueues = False

    def __init__(self, engine: Engine, *, threads: int | None = None, provider: str = CPU) -> None:
        self.name = _NAMES[provider]
        self._provider = provider
        self._engine = engine
        self._threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._sessions: list[Any] = []
        self._output_names: list[list[str]] = []
        self._fixed_batch: list[bool] = []
        if provider not in ort.get_available_providers():
            raise EngineError(
                f"ONNX Runtime {ort.__version__} here has no {provider}: install a build that has,"
                " or choose another backend"
            )
        for number in range(len(engine.stages)):
            self._open_stage(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sessions.clear()

    def feed(self, tensor: NDArray[Any]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(tensor)

    def run(
        self, stage: int, batch: Sequence[ort.OrtValue]
    ) -> tuple[NDArray[np.float32], Sequence[ort.OrtValue]]:
        if len(batch) > 1 and self._fixed_batch[stage]:
            return self._run_singly(stage, batch)
        # A binding for each run: in ONNX Runtime 1.23, the last for Python 3.10, the tensors of a
        # binding's run are written over by its next one, even where outputs are bound anew.
        session = self._sessions[stage]
        binding = session.io_binding()
        # Held by name until it has run: the binding keeps no hold of an array behind its input.
        taken = batch[0] if len(batch) == 1 else _join(batch)
        binding.bind_ortvalue_input(INPUT, taken)
        for name in self._output_names[stage]:
            stays = name == FEATURES and self._provider != CPU
            binding.bind_output(name, "cuda" if stays else "cpu")
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(f"stage {stage} of {self._engine.name} failed: {error}") from error
        outputs = binding.get_outputs()
        logits = outputs[0].numpy().astype(np.float32, copy=False)
        if logits.ndim != 2 or not logits.shape[1]:
            raise EngineError(
                f"stage {stage} of {self._engine.name} answers with the shape {logits.shape}:"
                " its output must be a row of logits for each item of the batch"
            )
        if len(outputs) == 1:
            return logits, ()
        return logits, (outputs[1],) if len(batch) == 1 else _split(outputs[1])

    def run_through(
        self, first: int, last: int, batch: Sequence[ort.OrtValue]
    ) -> tuple[NDArray[np.float32], Sequence[ort.OrtValue]]:
        return run_one_by_one(self, first, last, batch)

    def _run_singly(
        self, stage: int, batch: Sequence[ort.OrtValue]
    ) -> tuple[NDArray[np.float32], Sequence[ort.OrtValue]]:
        runs = [self.run(stage, [features]) for features in batch]
        logits = np.concatenate([logits for logits, _ in runs])
        return logits, [features for _, following in runs for features in following]

    def _open_stage(self, number: int) -> None:
        path = self._engine.stages[number].onnx
        if path is None:
            raise EngineError(
                f"stage {number} of {self._engine.name} has no ONNX file: name one in"
                f" {self._engine.folder / 'engine.yaml'}, or make one with `delen split`"
            )
        refuse_strays(path, self._engine.folder)
        session = _session(path, self._threads, self._provider)
        inputs = {tensor.name: tensor for tensor in session.get_inputs()}
        outputs = [tensor.name for tensor in session.get_outputs()]
        last = number == self._engine.last_exit
        wanted = [OUTPUT] if last else [OUTPUT, FEATURES]
        if list(inputs) != [INPUT] or not set(wanted) <= set(outputs):
            raise EngineError(
                f"{path}: the tensors are {', '.join(inputs)} -> {', '.join(outputs)};"
                f" they must be named {INPUT} -> {', '.join(wanted)}"
            )
        self._require_fit(number, path, _item_shape(inputs[INPUT]))
        batch = inputs[INPUT].shape[0]
        if isinstance(batch, int) and batch != 1:
            raise EngineError(
                f"{path} takes batches of {batch} alone: export it with a dynamic batch axis"
            )
        self._sessions.append(session)
        self._output_names.append(wanted)
        self._fixed_batch.append(batch == 1)

    def _require_fit(self, number: int, path: Path, taken: _Shape) -> None:
        """What the stage takes must be what the frames or the stage before it give."""
        given: _Shape = self._engine.input.shape
        source = "the engine's input has"
        if number:
            before = {tensor.name: tensor for tensor in self._sessions[-1].get_outputs()}
            given = _item_shape(before[FEATURES])
            source = f"stage {number - 1} gives"
        if not _fits(given, taken):
            raise EngineError(f"{path} takes the shape {taken}, but {source} {given}")


_NAMES = {CPU: "onnx", CUDA: "onnx-cuda", TENSORRT: "onnx-tensorrt"}

_Shape = Sequence[int | str | None]
"""One item's shape as a model declares it: a size, or a name or nothing where it is dynamic."""


def _item_shape(tensor: Any) -> _Shape:
    return tuple(tensor.shape[1:])


def _fits(given: _Shape, taken: _Shape) -> bool:
    pairs = zip(given, taken, strict=False)
    return len(given) == len(taken) and all(
        a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int)
    )


def _session(path: Path, threads: int, provider: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between requests would heat a box that mostly waits.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The memory arenas stay on: without them a ResNet-50 takes no less memory and no less time.
    options.log_severity_level = 3
    # What TensorRT has no kernel for is CUDA's business before it is the CPU's.
    providers = dict.fromkeys([provider, *([CUDA] if provider == TENSORRT else []), CPU])
    try:
        session = ort.InferenceSession(path, options, providers=list(providers))
    except Exception as error:
        raise EngineError(f"{path} cannot be opened by ONNX Runtime: {error}") from error
    if provider not in session.get_providers():
        raise EngineError(
            f"{path}: ONNX Runtime's {provider} does not start on this machine, for want of a GPU"
            " or of its libraries; choose another backend"
        )
    return session


def _join(batch: Sequence[ort.OrtValue]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.concatenate([value.numpy() for value in batch]))


def _split(features: ort.OrtValue) -> list[ort.OrtValue]:
    array = features.numpy()
    return [ort.OrtValue.ortvalue_from_numpy(array[item : item + 1]) for item in range(len(array))]
