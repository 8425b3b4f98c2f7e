"""A small run and the engine that it gives, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.modelling import split as splitting
from appliance.modelling.datasets import (
    ClassFolders,
)
from appliance.modelling.training.train import train
from tests.modelling.runs import say_nothing, small_dataset, small_spec


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("dataset") / "small")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A run folder of one epoch over four frames."""
    out = tmp_path_factory.mktemp("runs") / "small"
    train(small_spec(dataset), ClassFolders(dataset), out, report=say_nothing)
    return out


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """The engine folder that a split of that run gives."""
    out = tmp_path_factory.mktemp("engines") / "small"
    splitting.split(run, out, max_frames=3)
    return out


@pytest.fixture(autouse=True)
def no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter of the machine that tests has no say, but where a test names one."""
    monkeypatch.setenv("DELEN_METER", "modelled")
