"""Cuts a trained network into one ONNX file per stage, and checks them against torch."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from appliance import manifest
from appliance.backends.onnx import FEATURES, INPUT, OUTPUT, OnnxBackend
from appliance.engine import Engine, Stage
from appliance.errors import ModellingError
from appliance.modelling.datasets import Dataset, Example, Part, open_dataset
from appliance.modelling.folders import replaced_folder
from appliance.modelling.networks import build
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.run_folder import WEIGHTS, read_spec

TOLERANCE = 1e-3
"""The largest error of a stage's output that is still taken for rounding."""
CHECK_BATCHES = (1, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitReport:
    """What a split came to."""

    engine: Engine
    max_relative_error: float
    frames: int


def split(run: Path, out: Path, *, max_frames: int) -> SplitReport:
    """Writes the engine folder `out` from the run folder `run`.

    Up to `max_frames` held-out frames, as evenly from all labels as there are, come along in
    `frames/LABEL/`: what sensors send in a demo, and what a profile measures accuracy on. Raises
    ModellingError where the weights do not fit, or where a stage's output differs from torch's by
    more than 0.1 % of the largest; the old engine is then still there.
    """
    spec = read_spec(run)
    network = build(spec.network, classes=len(spec.labels))
    _load_weights(network, run / WEIGHTS)
    network.eval()
    dataset = open_dataset(spec.dataset, spec.dataset_dir) if max_frames else None
    with replaced_folder(out, mark=manifest.MANIFEST) as folder:
        stages = _export_stages(network, folder)
        engine = Engine(
            name=out.resolve().name,
            kind=network.kind,
            input=network.input,
            labels=spec.labels,
            stages=tuple(stages),
            folder=folder,
        )
        error = max_relative_error(network, engine)
        if not error <= TOLERANCE:
            raise ModellingError(
                f"the exported stages differ from the network by {error:.2g} of its output, over"
                f" {TOLERANCE}: {out} is left as it was"
            )
        frames = _write_frames(dataset, folder / "frames", max_frames) if dataset else 0
        manifest.save(engine, folder)
    return SplitReport(engine=manifest.load(out), max_relative_error=error, frames=frames)


def max_relative_error(network: MultiExitNetwork, engine: Engine) -> float:
    """How far the engine's logits are off, relative to the largest logit of the same exit.

    The whole chain runs as the appliance runs it, on random inputs, for a batch of one and one of
    three.
    """
    rng = np.random.default_rng(0)
    errors = []
    with OnnxBackend(engine) as backend, torch.inference_mode():
        for size in CHECK_BATCHES:
            inputs = rng.standard_normal((size, *engine.input.shape), dtype=np.float32)
            features: Sequence[object] = [backend.feed(item[np.newaxis]) for item in inputs]
            for stage, expected in enumerate(network(torch.from_numpy(inputs))):
                logits, features = backend.run(stage, features)
                wanted = expected.numpy()
                errors.append(float(np.abs(logits - wanted).max() / np.abs(wanted).max()))
    return float(np.max(errors))


def _load_weights(network: MultiExitNetwork, path: Path) -> None:
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise ModellingError(
            f"{path} does not hold weights of this network: {reason:.200}"
        ) from error


def _export_stages(network: MultiExitNetwork, folder: Path) -> list[Stage]:
    features = torch.zeros(1, *network.input.shape)
    stages = []
    for number in range(len(network.stages)):
        subnetwork = network.subnetwork(number).eval()
        path = folder / f"stage{number}.onnx"
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            outputs = subnetwork(features)
        _export(subnetwork, features, path, names=(OUTPUT, FEATURES)[: len(outputs)])
        stages.append(Stage(onnx=path, flops=float(counter.get_total_flops())))
        features = outputs[-1]
    return stages


def _export(
    subnetwork: torch.nn.Module, features: Tensor, path: Path, *, names: Sequence[str]
) -> None:
    """Writes one ONNX file, weights inside, with a batch axis of any size."""
    with _without_the_exporters_asides():
        program = torch.onnx.export(
            subnetwork,
            (features,),
            input_names=[INPUT],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    # Every node carries where in the source it came from, with this machine's paths.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(path, external_data=False)


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


def _write_frames(dataset: Dataset, folder: Path, max_frames: int) -> int:
    chosen = _evenly(dataset.examples(Part.TEST), max_frames)
    for example in chosen:
        path = folder / example.label / Path(example.name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.read())
    return len(chosen)


def _evenly(examples: Sequence[Example], limit: int) -> list[Example]:
    """At most `limit` examples, taken from all labels in turn."""
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.label, []).append(example)
    in_turn = chain.from_iterable(zip_longest(*by_label.values()))
    return list(islice((example for example in in_turn if example is not None), limit))
