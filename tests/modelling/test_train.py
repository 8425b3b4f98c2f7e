"""Training all exits of a network at once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from appliance.errors import ModellingError
from appliance.modelling.datasets import (
    ClassFolders,
)
from appliance.modelling.networks import build
from appliance.modelling.run_folder import read_spec
from appliance.modelling.train import Step, train
from tests.modelling.runs import delen, say_nothing, small_spec


def test_a_training_leaves_weights_a_spec_and_a_trace(run: Path) -> None:
    with (run / "trace.csv").open() as file:
        (epoch,) = csv.DictReader(file)

    assert {path.name for path in run.iterdir()} == {"weights.pth", "train_spec.yaml", "trace.csv"}
    assert {f"{part}_accuracy_{e}" for part in ("train", "valid") for e in range(4)} <= set(epoch)


def test_a_spec_is_read_as_it_was_written(run: Path, dataset: Path) -> None:
    assert read_spec(run) == small_spec(dataset)


def test_the_same_training_comes_to_the_same_weights(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    train(small_spec(dataset), ClassFolders(dataset), tmp_path / "again", report=say_nothing)

    first, again = (torch.load(r / "weights.pth") for r in (run, tmp_path / "again"))

    assert all(torch.equal(first[name], again[name]) for name in first)


def test_an_interrupted_training_leaves_the_old_run_in_place(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_spec(dataset), ClassFolders(dataset), out, report=say_nothing)
    before = (out / "weights.pth").read_bytes()

    def interrupt(_step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_spec(dataset), ClassFolders(dataset), out, report=interrupt)

    assert (out / "weights.pth").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_holds_something_else_is_not_replaced(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")

    with pytest.raises(ModellingError, match="is something else"):
        train(small_spec(dataset), ClassFolders(dataset), tmp_path, report=say_nothing)

    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_exit_weights_must_be_as_many_as_the_exits(dataset: Path, tmp_path: Path) -> None:
    command = ["train", "-m", "digits", "--dataset-dir", dataset, "--out", tmp_path / "run"]

    with pytest.raises(ModellingError, match="2 exit weights for the 4 exits"):
        delen(*command, "--weights", "0.5 0.5")


def test_an_unknown_network_names_those_there_are() -> None:
    with pytest.raises(ModellingError, match="there is no network resnet-9000: choose digits"):
        build("resnet-9000", classes=10)
