"""Modules of torch into ONNX files, and how far a chain of such files is off from torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

CHECK_BATCHES = (1, 3)


def export(module: nn.Module, inputs: Tensor, path: Path, *, names: Sequence[str]) -> None:
    """Writes a module as one ONNX file, weights inside, with a batch axis of any size.

    `inputs` is a batch of one; `names` are the input's and then those of the outputs.
    """
    # A batch of one would be taken for an axis that is always 1.
    two = torch.cat((inputs, inputs))
    with _without_the_exporters_asides():
        program = torch.onnx.export(
            module,
            (two,),
            input_names=list(names[:1]),
            output_names=list(names[1:]),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    # Every node carries where in the source it came from, with this machine's paths.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(path, external_data=False)


def fold_parametrizations(network: nn.Module) -> None:
    """Makes plain tensors of weights that are computed from others, such as normalised ones."""
    for module in list(network.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def flops(module: nn.Module, inputs: Tensor) -> float:
    """The floating-point operations of one run: two for each multiply-add."""
    # In one piece, as torch runs attention where it can, the counter sees nothing of it.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(value=False)
    try:
        with (
            torch.inference_mode(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            module(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(value=fast)
    return float(counter.get_total_flops())


def parameters(module: nn.Module) -> int:
    """How many numbers of a module were learned."""
    return sum(parameter.numel() for parameter in module.parameters())


def chain_error(modules: Sequence[nn.Module], files: Sequence[Path], shape: Sequence[int]) -> float:
    """How far the files' outputs are off from the modules', relative to the largest of each.

    Both chains run on the same noise of shape (N, *shape), for a batch of one and one of three;
    what a module gives last goes on to the next one.
    """
    rng = np.random.default_rng(0)
    sessions = [ort.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files]
    errors: list[float] = []
    for size in CHECK_BATCHES:
        noise = rng.standard_normal((size, *shape), dtype=np.float32)
        wanted, given = torch.from_numpy(noise), noise
        for module, session in zip(modules, sessions, strict=True):
            with torch.inference_mode():
                told = module(wanted)
            expected = told if isinstance(told, tuple) else (told,)
            outputs = session.run(None, {session.get_inputs()[0].name: given})
            errors += [
                _relative_error(a, b.numpy()) for a, b in zip(outputs, expected, strict=True)
            ]
            wanted, given = expected[-1], outputs[-1]
    return float(np.max(errors))


def _relative_error(given: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(given - expected).max()) / largest


@contextmanager
def _without_the_exporters_asides() -> Iterator[None]:
    """Keeps two remarks of the exporter's to itself: on torchvision, and on torch's own code."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        registration.setLevel(level)
