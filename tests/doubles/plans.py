"""Engines with plans of the double's, and how a test runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from appliance.backends.protocol import Backend
from appliance.engine import Engine
from tests.doubles.tensorrt_double import built_for


def planned(engine: Engine, batches: Sequence[int] = (1, 4)) -> Engine:
    """The engine with a plan of the double's for each stage."""
    lows = [1, *(size + 1 for size in batches[:-1])]
    stages = []
    for number, stage in enumerate(engine.stages):
        path = engine.folder / f"stage{number}.plan"
        assert stage.onnx is not None
        axes = onnx.load(stage.onnx).graph.input[0].type.tensor_type.shape.dim
        shape = [axis.dim_value for axis in axes[1:]]
        profiles = [
            [(low, *shape), (high, *shape), (high, *shape)]
            for low, high in zip(lows, batches, strict=True)
        ]
        built_for(path, stage.onnx, profiles)
        stages.append(replace(stage, tensorrt=path))
    return replace(engine, stages=tuple(stages))


def opened(engine: Engine) -> Any:
    from appliance.backends.tensorrt import TensorRTBackend  # noqa: PLC0415 - by now a double's

    return TensorRTBackend(engine)


def frame(value: float) -> NDArray[np.float32]:
    return np.full((1, 1, 8, 8), value, np.float32)


def through(backend: Backend, value: float, stages: int = 4) -> list[float]:
    """What class 2 gets at each exit, for one frame alone."""
    features, answers = backend.feed(frame(value)), []
    for stage in range(stages):
        logits, following = backend.run(stage, [features])
        answers.append(float(logits[0, 2]))
        features = following[0] if following else None
    return answers
