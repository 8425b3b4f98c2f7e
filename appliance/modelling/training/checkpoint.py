"""What a training needs to go on after it was cut short."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from appliance.errors import ModellingError
from appliance.modelling.networks.pretrained import Weights
from appliance.modelling.run_folder import (
    EpochTrace,
    TrainSpec,
    differences,
    read_spec,
    write_spec,
)

CHECKPOINT = "checkpoint.pth"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A training between two epochs."""

    traces: tuple[EpochTrace, ...]
    """Of the epochs that are done."""
    network: Weights
    best: Weights
    """The weights of the epoch that validates best."""
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]


def folder_of(out: Path) -> Path:
    """Where the checkpoints lie of a training whose run folder will be `out`."""
    return out.with_name(f"{out.name}.unfinished")


def save(checkpoint: Checkpoint, spec: TrainSpec, folder: Path) -> None:
    """Replaces the checkpoint in a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_spec(spec, folder)
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save(
        {
            "traces": [asdict(trace) for trace in checkpoint.traces],
            "network": dict(checkpoint.network),
            "best": dict(checkpoint.best),
            "optimizer": checkpoint.optimizer,
            "schedule": checkpoint.schedule,
        },
        partial,
    )
    partial.replace(folder / CHECKPOINT)


def load(spec: TrainSpec, folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder, if there is one. Raises ModellingError for another training's."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    other = differences(spec, read_spec(folder))
    if other:
        raise ModellingError(
            f"{folder} is of a training with another {', '.join(other)}: resume it with the same"
            " options, or delete the folder to start anew"
        )
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        traces = tuple(EpochTrace(**trace) for trace in saved.pop("traces"))
        return Checkpoint(traces=traces, **saved)
    except Exception as error:  # torch names no error for a file that is cut off
        raise ModellingError(
            f"{path} cannot be read: delete {folder} to start anew ({error})"
        ) from error


def discard(folder: Path) -> None:
    """Deletes the checkpoint of a training that is finished."""
    shutil.rmtree(folder, ignore_errors=True)
