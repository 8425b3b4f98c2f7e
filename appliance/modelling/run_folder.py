"""A training's folder: what was asked for, what came of it, and the weights."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from appliance.errors import ModellingError

SPEC, TRACE, WEIGHTS = "train_spec.yaml", "trace.csv", "weights.pth"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec:
    """What a training is asked to do; with the same one on the same machine it does the same."""

    network: str
    dataset: str | None
    dataset_dir: Path | None
    labels: tuple[str, ...]
    epochs: int
    batch_size: int
    exit_weights: tuple[float, ...]
    """How much the loss of each exit counts."""
    learning_rate: float
    """The highest of the one-cycle schedule."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTrace:
    """How an epoch went. Accuracies are fractions, one per exit."""

    epoch: int
    duration_s: float
    train_loss: float
    valid_loss: float
    train_accuracy: tuple[float, ...]
    valid_accuracy: tuple[float, ...]


_SPEC = TypeAdapter(TrainSpec)


def write_spec(spec: TrainSpec, folder: Path) -> None:
    document = _SPEC.dump_python(spec, mode="json")
    (folder / SPEC).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def read_spec(folder: Path) -> TrainSpec:
    """What the training in a folder was asked to do. Raises ModellingError."""
    path = folder / SPEC
    try:
        return _SPEC.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModellingError(
            f"{folder} holds no {SPEC}: name the folder that `delen train --out` wrote"
        ) from error
    except (OSError, ValueError, yaml.YAMLError, ValidationError) as error:
        raise ModellingError(f"{path} does not say how the training went: {error}") from error


def write_trace(epochs: Sequence[EpochTrace], folder: Path) -> None:
    """One line per epoch: its loss and the accuracy of every exit, trained on and validated."""
    exits = range(len(epochs[0].train_accuracy))
    header = ["epoch", "duration_s", "train_loss", "valid_loss"]
    header += [f"{part}_accuracy_{exit_}" for part in ("train", "valid") for exit_ in exits]
    with (folder / TRACE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for e in epochs:
            figures = (
                e.duration_s,
                e.train_loss,
                e.valid_loss,
                *e.train_accuracy,
                *e.valid_accuracy,
            )
            writer.writerow([e.epoch, *(f"{figure:.4f}" for figure in figures)])
