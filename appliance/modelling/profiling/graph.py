"""What an engine's graphs hold and cost: parameters and operations, counted from the ONNX files."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.engine import Engine
from appliance.errors import ModellingError

_OPERATIONS = 2
"""In a multiply-add."""


def counted(engine: Engine) -> Engine:
    """The engine with the FLOPs and parameters that its manifest lacks; with all of them, as it is.

    onnx-tool counts them for a batch of one. Raises ModellingError where it is not installed, and
    where it does not know an operator.
    """
    if all(stage.flops is not None and stage.parameters is not None for stage in engine.stages):
        return engine
    stages = []
    shape: tuple[int, ...] = (1, *engine.input.shape)
    for stage in engine.stages:
        if stage.onnx is None:
            raise ModellingError(f"{engine.folder} has a stage without an ONNX file to count in")
        graph = _profiled(stage.onnx, shape, engine.input.dtype)
        flops, parameters = _OPERATIONS * float(np.sum(graph.macs)), int(graph.params)
        stages.append(
            replace(
                stage,
                flops=flops if stage.flops is None else stage.flops,
                parameters=parameters if stage.parameters is None else stage.parameters,
            )
        )
        handed_on = graph.tensormap[graph.output[-1]]
        shape = tuple(int(size) for size in handed_on.get_shape())
    return replace(engine, stages=tuple(stages))


def _profiled(path: Path, shape: tuple[int, ...], dtype: str) -> Any:
    """The graph in a file after onnx-tool has counted in it, for an input of a shape."""
    try:
        # Only where something is to be counted: it need not be there.
        import onnx_tool  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModellingError(
            "FLOPs and parameters are not counted without onnx-tool: install it with"
            " `pip install 'delen[profile]'`"
        ) from error
    try:
        # It prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            graph = onnx_tool.Model(str(path), {"verbose": False}).graph
            graph.shape_infer({graph.input[0]: np.zeros(shape, dtype)})
            graph.profile()
    except Exception as error:  # it has no error of its own for an operator that it does not know
        raise ModellingError(f"{path} cannot be counted in by onnx-tool: {error}") from error
    return graph
