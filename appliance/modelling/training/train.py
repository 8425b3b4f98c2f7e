"""Trains a multi-exit network, all exits at once, and leaves a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from appliance.errors import ModellingError
from appliance.modelling.datasets import Dataset, Part
from appliance.modelling.folders import replaced_folder, require_replaceable
from appliance.modelling.memory import too_little_memory_explained
from appliance.modelling.networks import build
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.networks.pretrained import Weights
from appliance.modelling.run_folder import (
    SPEC,
    WEIGHTS,
    EpochTrace,
    TrainSpec,
    write_spec,
    write_trace,
)
from appliance.modelling.training import checkpoint as checkpoints
from appliance.modelling.training.checkpoint import Checkpoint
from appliance.modelling.training.course import Course, Step, accelerator
from appliance.modelling.training.curves import draw_curves


def train(  # noqa: PLR0913 - what to do, where, and how to go about it
    spec: TrainSpec,
    dataset: Dataset,
    out: Path,
    *,
    report: Callable[[Step], None],
    resume: bool = False,
    workers: int = 0,
) -> tuple[EpochTrace, ...]:
    """Trains a network, and writes the run folder `out` once all epochs are done.

    Its weights are those of the epoch with the lowest loss on the validation part. After every
    epoch a checkpoint is left in `OUT.unfinished`, from which `resume` goes on. `workers` are
    processes that decode frames; `report` is called after every batch. Where several processes
    train together, the first of them writes. Raises ModellingError where the dataset or the
    options do not serve, where the loss is no number any more, and where the memory runs out.
    """
    _require_examples(dataset)
    require_replaceable(out, mark=SPEC)
    torch.manual_seed(spec.seed)
    with _failures_explained(spec):
        network = build(spec.network, classes=len(spec.labels), pretrained=spec.pretrained)
    network.sums_logits = spec.evaluation == "residual"
    spec = _completed(spec, network)
    _require_fit(spec, network, dataset)
    unfinished = checkpoints.folder_of(out)
    begun = _begun(spec, out, unfinished, resume=resume)
    devices = accelerator()
    if len(dataset.examples(Part.TRAIN)) < devices.num_processes:
        raise ModellingError(
            f"{len(dataset.examples(Part.TRAIN))} examples are too few for"
            f" {devices.num_processes} processes: start fewer, or add frames"
        )
    with _failures_explained(spec):
        course = Course(spec, network, dataset, devices=devices, workers=workers, report=report)
        traces, best = _run(course, spec, begun, unfinished, writes=devices.is_main_process)
    if devices.is_main_process:
        with replaced_folder(out, mark=SPEC) as folder:
            torch.save(best, folder / WEIGHTS)
            write_trace(traces, folder)
            draw_curves(traces, folder)
            write_spec(spec, folder)
        checkpoints.discard(unfinished)
    devices.wait_for_everyone()
    return traces


def is_first_process() -> bool:
    """Whether this is the one of several processes training together that writes and shows."""
    return bool(accelerator().is_main_process)


def default_workers() -> int:
    """A CPU that trains has no cores left for others to decode on; beside a GPU they are idle."""
    return max(1, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0


def _run(
    course: Course, spec: TrainSpec, begun: Checkpoint | None, unfinished: Path, *, writes: bool
) -> tuple[tuple[EpochTrace, ...], Weights]:
    """All epochs that are left: the traces of all there were, and the best weights of any."""
    traces: list[EpochTrace] = []
    best: Weights = {}
    if begun is not None:
        traces, best = list(begun.traces), begun.best
        course.go_on_from(
            begun.network, optimizer=dict(begun.optimizer), schedule=dict(begun.schedule)
        )
    for number in range(len(traces) + 1, spec.epochs + 1):
        trace = course.epoch(number)
        if all(trace.valid_loss < earlier.valid_loss for earlier in traces):
            best = course.weights()
        traces.append(trace)
        if writes:
            checkpoints.save(
                Checkpoint(
                    traces=tuple(traces), network=course.weights(), best=best, **course.state()
                ),
                spec,
                unfinished,
            )
    return tuple(traces), best


def _begun(spec: TrainSpec, out: Path, unfinished: Path, *, resume: bool) -> Checkpoint | None:
    if resume:
        begun = checkpoints.load(spec, unfinished)
        if begun is None and (out / SPEC).is_file():
            raise ModellingError(
                f"{out} is finished, so there is nothing to resume: leave out --resume to train"
                " it anew"
            )
        return begun
    if unfinished.exists():
        raise ModellingError(
            f"{unfinished} holds a training that was cut short: go on with --resume, or delete it"
        )
    return None


def _completed(spec: TrainSpec, network: MultiExitNetwork) -> TrainSpec:
    exits = len(network.stages)
    return spec if spec.exit_weights else replace(spec, exit_weights=(1.0 / exits,) * exits)


def _require_examples(dataset: Dataset) -> None:
    for part in (Part.TRAIN, Part.VALID):
        if not dataset.examples(part):
            raise ModellingError(
                f"the dataset has no examples for the part `{part.value}`: put frames of every"
                " label there, or more frames where a part is drawn from all of them"
            )
    untaught = set(dataset.labels) - {example.label for example in dataset.examples(Part.TRAIN)}
    if untaught:
        raise ModellingError(
            f"no example of {min(untaught)} is for training: add some, or remove that label from"
            " the other parts"
        )


def _require_fit(spec: TrainSpec, network: MultiExitNetwork, dataset: Dataset) -> None:
    if dataset.kind is not network.kind:
        raise ModellingError(
            f"{spec.network} takes {network.kind.value} frames, but the dataset holds"
            f" {dataset.kind.value} frames: choose a network for these"
        )
    if len(spec.exit_weights) != len(network.stages):
        raise ModellingError(
            f"{len(spec.exit_weights)} exit weights for the {len(network.stages)} exits of"
            f" {spec.network}: give one for each"
        )


@contextmanager
def _failures_explained(spec: TrainSpec) -> Iterator[None]:
    too_little_memory = (
        f"there is too little memory for {spec.network} with batches of {spec.batch_size}: choose"
        " a smaller --batch-size"
    )
    try:
        with too_little_memory_explained(too_little_memory):
            yield
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            raise ModellingError(
                f"{spec.network} normalises over the frames of a batch, of which one is too few:"
                " choose a --batch-size of 2 or more, or add frames"
            ) from error
        raise
