"""Stages on TensorRT: one stream, features that stay on the device, and logits that come back.

Every address is set once. A stage reads its input from its own bench on the device, and writes its
features to the next stage's; `places` says what little has to be copied, on the device, where
batches are made up anew or cross each other's way. The frame is written once, to pinned memory:
on a Jetson, where the device reads the host's memory, that is the first bench itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from appliance.backends.cuda import CudaDevice
from appliance.backends.places import Copy, Features, Place, Places
from appliance.backends.protocol import FEATURES, INPUT, OUTPUT
from appliance.backends.tensorrt_stage import (
    ItemSpec,
    StageMemory,
    TensorRTStage,
    start_runtime,
)
from appliance.engine import Engine
from appliance.errors import EngineError

SLOTS_PER_PLACE = 2
"""How many batches' features may lie aside before more memory is taken."""

_ALIGNMENT = 256


class TensorRTBackend:
    """Runs an engine's TensorRT plans on the first CUDA device.

    A handle of `feed` or `run` keeps its features on the device for as long as it is held. Nothing
    is allocated for a request, save where more features are held at once than ever before. A batch
    larger than the plans' largest runs in parts.
    """

    name = "tensorrt"
    enqueues = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._device = CudaDevice()
        self._stages: list[TensorRTStage] = []
        self._benches: list[int] = []
        self._logits: list[NDArray[np.generic]] = []
        self._outputs: list[int] = []
        self._asides: list[int] = []
        self._is_copying = False
        """Whether copies were enqueued that nobody has waited for."""
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            parts.enter_context(self._device)
            parts.callback(self._close_stages)
            try:
                self._open_stages()
                self._take_memory()
                self._bind()
            except EngineError as error:
                # What failed may hold a plan or a context, which must be gone before the device is.
                traceback.clear_frames(error.__traceback__)
                raise
            self._open = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def feed(self, tensor: NDArray[Any]) -> Features:
        features = self._places.take_in()
        index = features.place.index if features.place else 0
        # The frame that lay here may still be on its way to where it was moved.
        if self._is_copying:
            self._wait()
        self._frames[index] = tensor[0]
        if not self._device.is_unified:
            self._device.upload(self._address(0, Place(0, index)), self._frames[index])
        return features

    def run(
        self, stage: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        return self.run_through(stage, stage, batch)

    def run_through(
        self, first: int, last: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        for features in batch:
            self._require_usable(first, features)
        starts = range(0, len(batch), self._capacity)
        runs = [
            self._run_part(first, last, batch[start : start + self._capacity]) for start in starts
        ]
        # Not before all have run: where one fails, the whole batch can be given again.
        self._places.use_up(batch)
        if len(runs) == 1:
            return runs[0]
        logits = np.concatenate([logits for logits, _ in runs])
        return logits, [features for _, following in runs for features in following]

    def _run_part(
        self, first: int, last: int, batch: Sequence[Features]
    ) -> tuple[NDArray[np.float32], Sequence[Features]]:
        count = len(batch)
        try:
            self._places.gather(first, batch)
            for stage in range(first, last + 1):
                if stage < self._engine.last_exit:
                    self._places.clear(stage + 1, count)
                self._stages[stage].enqueue(count, self._device.stream)
            logits = self._logits[last][:count]
            if not self._device.is_unified:
                self._device.download(logits, self._outputs[last])
            self._wait()
        except EngineError as error:
            stages = f"stage {first}" if first == last else f"stages {first} to {last}"
            raise EngineError(f"{stages} of {self._engine.name} failed: {error}") from error
        answer = np.array(logits, dtype=np.float32)
        if last == self._engine.last_exit:
            return answer, ()
        return answer, self._places.hand_on(last + 1, count)

    def _require_usable(self, stage: int, features: Features) -> None:
        if features.place is None or features.stage != stage:
            state = "were used up" if features.place is None else f"are for stage {features.stage}"
            raise EngineError(f"features given to stage {stage} of {self._engine.name} {state}")

    def _wait(self) -> None:
        self._device.synchronize()
        self._is_copying = False

    def _copy(self, copy: Copy) -> None:
        source = self._address(copy.stage, copy.source)
        target = self._address(copy.stage, copy.target)
        self._device.copy(target, source, self._stages[copy.stage].input.size)
        self._is_copying = True

    def _address(self, stage: int, place: Place) -> int:
        if place.stage is not None:
            return self._benches[stage] + place.index * self._stages[stage].input.size
        block, slot = divmod(place.index, self._slots_in_one)
        while block >= len(self._asides):
            self._take_slots()
        return self._asides[block] + slot * self._slot_size

    # Opening: once for each engine, in the executor's thread.

    def _open_stages(self) -> None:
        runtime = start_runtime()
        for number, stage in enumerate(self._engine.stages):
            if stage.tensorrt is None:
                raise EngineError(
                    f"stage {number} of {self._engine.name} has no TensorRT plan:"
                    f" `delen compile {self._engine.folder}` builds one"
                )
            is_last = number == self._engine.last_exit
            opened = TensorRTStage(stage.tensorrt, runtime, is_last=is_last)
            self._stages.append(opened)
            spec = self._engine.input
            given: ItemSpec | None = ItemSpec(shape=spec.shape, dtype=np.dtype(spec.dtype))
            if number:
                given = self._stages[number - 1].features
            if opened.input != given:
                raise EngineError(f"{stage.tensorrt} takes {opened.input}, but is given {given}")

    def _take_memory(self) -> None:
        self._capacity = min(stage.largest_batch for stage in self._stages)
        self._slot_size = max(_aligned(stage.input.size) for stage in self._stages)
        self._slots_in_one = SLOTS_PER_PLACE * self._capacity
        self._places = Places(stages=len(self._stages), capacity=self._capacity, copy=self._copy)
        self._take_slots()
        frame = self._stages[0].input
        self._frames = self._device.pin((self._capacity, *frame.shape), frame.dtype)
        self._frames[...] = 0
        for number, stage in enumerate(self._stages):
            if number == 0 and self._device.is_unified:
                self._benches.append(self._device.mapped(self._frames))
            else:
                self._benches.append(self._device.allocate(self._capacity * stage.input.size))
            logits = self._device.pin((self._capacity, *stage.output.shape), stage.output.dtype)
            self._logits.append(logits)
            if self._device.is_unified:
                self._outputs.append(self._device.mapped(logits))
            else:
                self._outputs.append(self._device.allocate(logits.nbytes))
        if not self._device.is_unified:
            self._device.upload(self._benches[0], self._frames)

    def _take_slots(self) -> None:
        self._asides.append(self._device.allocate(self._slots_in_one * self._slot_size))

    def _bind(self) -> None:
        # Stages run one after the other on one stream, so they can all use the same scratch.
        scratch_size = max(1, *(stage.scratch_size for stage in self._stages))
        scratch = self._device.allocate(scratch_size)
        for number, stage in enumerate(self._stages):
            addresses = {INPUT: self._benches[number], OUTPUT: self._outputs[number]}
            if number < self._engine.last_exit:
                addresses[FEATURES] = self._benches[number + 1]
            memory = StageMemory(addresses=addresses, scratch=scratch, scratch_size=scratch_size)
            stage.bind(self._device, self._capacity, memory)
        # In order: what a stage is recorded on is what the stages before made of empty frames.
        for stage in self._stages:
            stage.record(self._device)

    def _close_stages(self) -> None:
        for stage in self._stages:
            stage.close()
        self._stages.clear()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
