"""Small datasets, and the commands that make engines of them."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from appliance.cli import compile as compile_command
from appliance.cli import import_delen, profile, run, split, train
from appliance.modelling.datasets import (
    Digits,
    Part,
)
from appliance.modelling.run_folder import TrainSpec
from appliance.modelling.training.course import Step

OWN_NETWORK = """
from torch import nn
from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.multi_exit import wrapped

def build(classes):
    stages = [nn.Conv2d(1, 4, 3, stride=2), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2))]
    spec = InputSpec(shape=(1, 96, 96))
    return wrapped(stages, kind=Kind.IMAGE, input=spec, classes=classes)

number = 7

def wrong(classes):
    return nn.Linear(classes, classes)
"""


def delen(*words: object) -> Result:
    """Runs `delen` with these words; an error of ours is raised, as to the command's main."""
    app = typer.Typer()
    for verbs in (train, split, profile, run, import_delen, compile_command):
        verbs.register(app)
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def small_dataset(folder: Path, *, per_label: int = 2) -> Path:
    """A folder with the parts train, valid and test of two labels, of real digit frames."""
    digits = Digits()
    for part in Part:
        examples = digits.examples(part)
        for label in ("0", "1"):
            place = folder / part.value / label
            place.mkdir(parents=True)
            for example in [e for e in examples if e.label == label][:per_label]:
                (place / example.name).write_bytes(example.read())
    return folder


def small_spec(dataset: Path, *, epochs: int = 1) -> TrainSpec:
    return TrainSpec(
        network="digits",
        dataset=None,
        dataset_dir=dataset,
        labels=("0", "1"),
        epochs=epochs,
        batch_size=4,
        exit_weights=(0.25, 0.25, 0.25, 0.25),
        learning_rate=1e-3,
        seed=0,
    )


def say_nothing(_step: Step) -> None:
    return
