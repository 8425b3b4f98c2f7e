"""Cuts a trained network into ONNX files, and checks them against torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import nn

from appliance import manifest
from appliance.backends.protocol import FEATURES, INPUT, OUTPUT
from appliance.engine import Engine, Stage
from appliance.errors import ModellingError
from appliance.modelling.datasets import Example, Part, open_dataset
from appliance.modelling.folders import replaced_folder
from appliance.modelling.memory import too_little_memory_explained
from appliance.modelling.networks import build
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.networks.pretrained import read_weights
from appliance.modelling.onnx_export import (
    chain_error,
    export,
    flops,
    fold_parametrizations,
    parameters,
)
from appliance.modelling.run_folder import WEIGHTS, TrainSpec, read_spec

Granularity = Literal["exit", "block", "model"]

TOLERANCE = 1e-3
"""The largest error of a part's output that is still taken for rounding."""

BLOCKS = "blocks.yaml"
"""What a folder of blocks is known by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitReport:
    """What a split came to."""

    parts: int
    parameters: int
    max_relative_error: float
    frames: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A piece of the network, and the file that it became."""

    module: nn.Module
    file: Path
    flops: float

    @property
    def parameters(self) -> int:
        return parameters(self.module)


def split(
    run: Path,
    out: Path,
    *,
    max_frames: int,
    granularity: Granularity = "exit",
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> SplitReport:
    """Writes the folder `out` from the run folder `run`.

    Cut at the exits it is an engine; as a whole model it is an engine whose only exit is the last;
    in blocks it is a chain of files to be studied, described in `blocks.yaml`. With an engine up
    to `max_frames` held-out frames, as evenly from all labels as there are, come along in
    `frames/LABEL/`: what sensors send in a demo, and what a profile measures accuracy on. `report`
    is told how many parts are exported, and of how many. Raises ModellingError where the weights
    do not fit, or where a part's output differs from torch's by more than 0.1 % of the largest;
    what was in `out` before is then still there.
    """
    spec = read_spec(run)
    with too_little_memory_explained(
        f"there is too little memory to export {run}: free some; {out} is left as it was"
    ):
        return _written(run, spec, out, granularity, max_frames=max_frames, report=report)


def _written(  # noqa: PLR0913 - what to write, where, and how
    run: Path,
    spec: TrainSpec,
    out: Path,
    granularity: Granularity,
    *,
    max_frames: int,
    report: Callable[[int, int], None],
) -> SplitReport:
    network = _trained_network(spec, run / WEIGHTS)
    modules = _cut(network, granularity)
    frames = [] if granularity == "block" else _held_out_frames(spec, max_frames)
    mark = BLOCKS if granularity == "block" else manifest.MANIFEST
    with replaced_folder(out, mark=mark) as folder:
        stem = "block" if granularity == "block" else "stage"
        parts = _export(modules, network.input.shape, folder, stem=stem, report=report)
        error = chain_error(modules, [part.file for part in parts], network.input.shape)
        if not error <= TOLERANCE:
            raise ModellingError(
                f"the exported parts differ from the network by {error:.2g} of their output, over"
                f" {TOLERANCE}: {out} is left as it was"
            )
        if granularity == "block":
            _describe_blocks(spec, parts, folder)
        else:
            _write_frames(frames, folder / "frames")
            name = out.resolve().name
            manifest.save(_engine(name, spec, network, parts, folder), folder)
    return SplitReport(
        parts=len(parts),
        parameters=sum(part.parameters for part in parts),
        max_relative_error=error,
        frames=len(frames),
    )


def _trained_network(spec: TrainSpec, weights: Path) -> MultiExitNetwork:
    network = build(spec.network, classes=len(spec.labels))
    network.sums_logits = spec.evaluation == "residual"
    try:
        network.load_state_dict(read_weights(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModellingError(
            f"{weights} does not hold weights of {spec.network}: {reason:.200}"
        ) from error
    fold_parametrizations(network)
    network.eval()
    return network


def _cut(network: MultiExitNetwork, granularity: Granularity) -> list[nn.Module]:
    match granularity:
        case "exit":
            modules = [network.subnetwork(exit_) for exit_ in range(len(network.stages))]
        case "block" if network.sums_logits:
            raise ModellingError(
                "the exits of this network answer with the sum of all earlier ones, which blocks"
                " without exits do not give: split it by --granularity exit or model"
            )
        case "block":
            modules = [network.block(number) for number in range(network.block_count)]
        case "model":
            modules = [network.backbone()]
    return [module.eval() for module in modules]


def _export(
    modules: Sequence[nn.Module],
    shape: Sequence[int],
    folder: Path,
    *,
    stem: str,
    report: Callable[[int, int], None],
) -> list[_Part]:
    features = torch.zeros(1, *shape)
    parts = []
    for number, module in enumerate(modules):
        file = folder / f"{stem}{number}.onnx"
        with torch.inference_mode():
            outputs: Any = module(features)
        names = _output_names(outputs, last=number == len(modules) - 1)
        export(module, features, file, names=(INPUT, *names))
        parts.append(_Part(module=module, file=file, flops=flops(module, features)))
        features = outputs[-1] if isinstance(outputs, tuple) else outputs
        report(number + 1, len(modules))
    return parts


def _output_names(outputs: Any, *, last: bool) -> tuple[str, ...]:
    """A subnetwork gives a tuple; a block one tensor, which only the last one's is the answer."""
    if isinstance(outputs, tuple) and len(outputs) == 2:
        return (OUTPUT, FEATURES)
    return (OUTPUT,) if last else (FEATURES,)


def _engine(
    name: str, spec: TrainSpec, network: MultiExitNetwork, parts: Sequence[_Part], folder: Path
) -> Engine:
    return Engine(
        name=name,
        kind=network.kind,
        input=network.input,
        labels=spec.labels,
        stages=tuple(
            Stage(onnx=part.file, flops=part.flops, parameters=part.parameters) for part in parts
        ),
        folder=folder,
    )


def _describe_blocks(spec: TrainSpec, parts: Sequence[_Part], folder: Path) -> None:
    document = {
        "network": spec.network,
        "blocks": [
            {"onnx": part.file.name, "flops": part.flops, "parameters": part.parameters}
            for part in parts
        ],
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    (folder / BLOCKS).write_text(text, encoding="utf-8")


def _held_out_frames(spec: TrainSpec, limit: int) -> list[Example]:
    """At most `limit` examples of the test part, or of the validation part where there is none."""
    if not limit:
        return []
    try:
        dataset = open_dataset(spec.dataset, spec.dataset_dir)
        examples = dataset.examples(Part.TEST) or dataset.examples(Part.VALID)
    except ModellingError as error:
        raise ModellingError(
            f"{error}. The engine's frames come from there; without any: --frames 0"
        ) from error
    known = [example for example in examples if example.label in spec.labels]
    return _evenly(known, limit)


def _write_frames(examples: Sequence[Example], folder: Path) -> None:
    for example in examples:
        path = folder / example.label / Path(example.name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.read())


def _evenly(examples: Sequence[Example], limit: int) -> list[Example]:
    """At most `limit` examples, taken from all labels in turn."""
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.label, []).append(example)
    in_turn = chain.from_iterable(zip_longest(*by_label.values()))
    return list(islice((example for example in in_turn if example is not None), limit))
