"""Datasets by name or by folder; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.errors import ModellingError
from appliance.modelling.datasets import digits, food101, speech_commands
from appliance.modelling.datasets.class_folders import ClassFolders, HeldOutFrames
from appliance.modelling.datasets.dataset import Batch, Dataset, Example, Part, batches
from appliance.modelling.datasets.digits import Digits
from appliance.modelling.datasets.food101 import Food101
from appliance.modelling.datasets.speech_commands import SpeechCommands

__all__ = [
    "DESCRIPTIONS",
    "Batch",
    "ClassFolders",
    "Dataset",
    "Digits",
    "Example",
    "Food101",
    "HeldOutFrames",
    "Part",
    "SpeechCommands",
    "batches",
    "open_dataset",
]

DESCRIPTIONS: Mapping[str, str] = {
    "digits": digits.DESCRIPTION,
    "food-101": food101.DESCRIPTION,
    "speech-commands": speech_commands.DESCRIPTION,
}
"""The datasets that have a name of their own: what they are, and where they come from."""


def open_dataset(name: str | None, folder: Path | None) -> Dataset:
    """The dataset of this name, or the class folders in a folder. Raises ModellingError."""
    match name:
        case None if folder is not None:
            return ClassFolders(folder)
        case None:
            raise ModellingError(
                "no dataset is named: choose one with --dataset, or name a folder of class folders"
                " with --dataset-dir"
            )
        case "digits" if folder is not None:
            raise ModellingError(
                "the digits come with scikit-learn and need no folder: leave out --dataset-dir, or"
                f" leave out --dataset to take the frames in {folder}"
            )
        case "digits":
            return Digits()
        case "food-101":
            return Food101(folder)
        # The second is how Dělen calls it.
        case "speech-commands" | "speech_commands":
            return SpeechCommands(folder)
        case _:
            raise ModellingError(
                f"there is no dataset {name}: choose {', '.join(DESCRIPTIONS)}, or leave it out and"
                " name a folder of class folders with --dataset-dir"
            )
