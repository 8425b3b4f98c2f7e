"""A training's folder: what was asked for, what came of it, and the weights."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from appliance.document import listed
from appliance.errors import ModellingError

SPEC, TRACE, CURVES, WEIGHTS = "train_spec.yaml", "trace.csv", "curves.png", "weights.pth"

OptimizerName = Literal["sgd", "adam", "adamw"]
LossName = Literal["weighted-sum", "residual"]
Evaluation = Literal["independent", "residual"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec:
    """What a training is asked to do; with the same one on the same machine it does the same."""

    network: str
    pretrained: Path | None = None
    """Where the backbone's first weights come from; fresh ones where it is None."""
    dataset: str | None
    dataset_dir: Path | None
    labels: tuple[str, ...]
    epochs: int
    batch_size: int
    """Frames a step on each of the processes that train together."""
    optimizer: OptimizerName = "adam"
    learning_rate: float
    """The only one, or the highest of the one-cycle schedule."""
    one_cycle: bool = False
    loss: LossName = "weighted-sum"
    exit_weights: tuple[float, ...] = ()
    """How much the loss of each exit counts; equally where it is empty."""
    distillation: float = 0.0
    """Which fraction of the earlier exits' loss is their distance from the last exit's answer."""
    rescale_gradients: bool = False
    """Whether every exit moves the weights that it shares with others equally."""
    evaluation: Evaluation = "independent"
    """What an exit answers: its own logits, or their sum with those of the exits before it."""
    augment: bool = False
    """Whether the examples are seen anew in every epoch."""
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
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    (folder / SPEC).write_text(text, encoding="utf-8")


def read_spec(folder: Path) -> TrainSpec:
    """What the training in a folder was asked to do. Raises ModellingError."""
    path = folder / SPEC
    try:
        return _SPEC.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModellingError(
            f"{folder} holds no {SPEC}: name the folder that `delen train --out` wrote"
        ) from error
    except ValidationError as error:
        raise ModellingError(
            f"{path} does not say how the training went: {listed(error)}"
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ModellingError(f"{path} does not say how the training went: {reason}") from error


def differences(one: TrainSpec, other: TrainSpec) -> list[str]:
    """The names of what two specs ask differently."""
    names = (field.name for field in fields(TrainSpec))
    return [name for name in names if getattr(one, name) != getattr(other, name)]


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
