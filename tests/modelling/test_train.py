"""Training all exits of a network at once."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from appliance.errors import ModellingError
from appliance.modelling.datasets import ClassFolders, Example
from appliance.modelling.run_folder import read_spec
from appliance.modelling.training.course import Step
from appliance.modelling.training.loading import in_batches
from appliance.modelling.training.train import train
from tests.modelling.runs import delen, say_nothing, small_dataset, small_spec
from tests.waiting import wait_until

pytestmark = pytest.mark.training

NETWORK_THAT_NORMALISES_ROWS = """
from torch import nn
from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.multi_exit import wrapped

def build(classes):
    rows = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(4))
    return wrapped(
        [rows, nn.Linear(4, 4)],
        kind=Kind.IMAGE,
        input=InputSpec(shape=(1, 96, 96)),
        classes=classes,
    )
"""


def test_a_training_leaves_weights_a_spec_a_trace_and_a_picture(run: Path) -> None:
    with (run / "trace.csv").open() as file:
        (epoch,) = csv.DictReader(file)

    names = {path.name for path in run.iterdir()}
    assert names == {"weights.pth", "train_spec.yaml", "trace.csv", "curves.png"}
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


def test_weights_are_words_or_one_quoted_list(dataset: Path, tmp_path: Path) -> None:
    command = ["train", "-m", "digits", "--dataset-dir", dataset, "-n", 1, "-b", 4]

    delen(*command, "--out", tmp_path / "words", "--weights", "0.1", "0.2", "0.3", "0.4")
    delen(*command, "--out", tmp_path / "quoted", "--weights", "0.1,0.2 0.3 0.4")

    assert read_spec(tmp_path / "words").exit_weights == (0.1, 0.2, 0.3, 0.4)
    assert read_spec(tmp_path / "quoted") == read_spec(tmp_path / "words")


@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "adam", "--one-cycle", "--augment"],
        ["--loss-fn", "residual", "--eval-fn", "residual"],
        ["--loss-fn", "weighted_sum", "--distillation", 0.5, "--rescale-gradients"],
        ["--workers", 2],
    ],
    ids=lambda options: options[0],
)
def test_every_way_to_train_ends_in_a_run(
    options: list[object], dataset: Path, tmp_path: Path
) -> None:
    command = ["train", "-m", "digits", "--dataset-dir", dataset, "-n", 2, "-b", 4]

    printed = delen(*command, "--out", tmp_path / "run", *options).stdout

    assert "of 2 validates best" in printed
    assert not (tmp_path / "run.unfinished").exists()


def test_unknown_options_of_a_choice_name_the_choices(dataset: Path, tmp_path: Path) -> None:
    command = ["train", "-m", "digits", "--dataset-dir", dataset, "--out", tmp_path / "run"]

    result = delen(*command, "--optimizer", "lion")

    assert result.exit_code == 2
    assert "sgd, adam, adamw" in result.stderr


def test_a_killed_training_comes_to_the_same_when_it_is_resumed(
    dataset: Path, tmp_path: Path
) -> None:
    command = ["train", "-m", "digits", "--dataset-dir", dataset, "-n", 12, "-b", 4]
    command += ["--optimizer", "adamw", "--one-cycle", "--augment", "--out"]
    delen(*command, tmp_path / "whole")
    unfinished = tmp_path / "killed.unfinished"

    with _process(*command, tmp_path / "killed") as training:
        wait_until((unfinished / "checkpoint.pth").is_file)
        training.kill()
    with pytest.raises(ModellingError, match="cut short: go on with --resume, or delete it"):
        delen(*command, tmp_path / "killed")
    with pytest.raises(ModellingError, match="another seed: resume it with the same options"):
        delen(*command, tmp_path / "killed", "--resume", "--seed", 1)
    delen(*command, tmp_path / "killed", "--resume")

    whole, resumed = (torch.load(tmp_path / name / "weights.pth") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not unfinished.exists()


def test_a_finished_training_is_not_resumed(run: Path, dataset: Path) -> None:
    with pytest.raises(ModellingError, match="is finished, so there is nothing to resume"):
        train(small_spec(dataset), ClassFolders(dataset), run, report=say_nothing, resume=True)


def test_two_processes_train_together(dataset: Path, tmp_path: Path) -> None:
    words = ["-m", "digits", "--dataset-dir", dataset, "-n", 1, "-b", 2, "--out", tmp_path / "run"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]

    done = subprocess.run(
        [*launcher, "-m", "appliance.cli", "train", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    assert done.stdout.count("validates best") == 1
    with (tmp_path / "run" / "trace.csv").open() as file:
        (epoch,) = csv.DictReader(file)
    # Each of the two saw two of the four examples; their accuracies are of all four.
    assert float(epoch["train_accuracy_3"]) in {0.0, 0.25, 0.5, 0.75, 1.0}


def test_too_little_memory_is_said_in_a_sentence(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY_NETWORK)
    command = ["train", "-m", f"{tmp_path}/greedy.py:build", "--dataset-dir", dataset]

    with pytest.raises(ModellingError, match=r"too little memory for .* with batches of 4"):
        delen(*command, "-b", 4, "--out", tmp_path / "run")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["greedy.py"]


def test_a_frame_that_is_left_over_is_trained_with_those_before_it(tmp_path: Path) -> None:
    source = small_dataset(tmp_path / "small", per_label=5)
    (tmp_path / "my_net.py").write_text(NETWORK_THAT_NORMALISES_ROWS)

    delen(
        "train", "-m", f"{tmp_path}/my_net.py:build", "--dataset-dir", source,
        "-n", 1, "-b", 3, "--one-cycle", "--out", tmp_path / "run",
    )  # fmt: skip

    assert (tmp_path / "run" / "weights.pth").is_file()


def test_batches_of_one_say_why_some_networks_cannot_learn_from_them(
    dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_net.py").write_text(NETWORK_THAT_NORMALISES_ROWS)
    command = ["train", "-m", f"{tmp_path}/my_net.py:build", "--dataset-dir", dataset]

    with pytest.raises(ModellingError, match=r"choose a --batch-size of 2 or more"):
        delen(*command, "-b", 1, "--out", tmp_path / "run")

    delen("train", "-m", "digits", "--dataset-dir", dataset, "-n", 1, "-b", 1,
          "--out", tmp_path / "run")  # fmt: skip
    assert (tmp_path / "run" / "weights.pth").is_file()


def test_batches_hold_every_frame_once_and_none_alone() -> None:
    examples = [Example(name=str(n), label="0", read=bytes) for n in range(11)]

    for count in range(2, 12):
        for size in range(2, 12):
            taken = in_batches(examples[:count], size)
            assert [e for batch in taken for e in batch] == examples[:count]
            assert all(1 < len(batch) <= size + 1 for batch in taken)


def test_a_network_for_other_frames_is_refused(dataset: Path, tmp_path: Path) -> None:
    command = ["train", "-m", "wav2vec2", "--dataset-dir", dataset, "--out", tmp_path / "run"]

    with pytest.raises(ModellingError, match="takes audio frames, but the dataset holds image"):
        delen(*command)


def test_the_input_type_is_checked_where_it_is_said(dataset: Path) -> None:
    command = ["train", "-m", "digits", "--dataset-dir", dataset, "--input-type", "audio"]

    with pytest.raises(ModellingError, match="the dataset holds image, not audio"):
        delen(*command)


GREEDY_NETWORK = """
import torch
from torch import nn
from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.multi_exit import MultiExitNetwork

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, features):
        return torch.empty(len(features), 10**14) * self.weight

def build(classes):
    spec = InputSpec(shape=(1, 96, 96))
    return MultiExitNetwork(kind=Kind.IMAGE, input=spec, stages=[Greedy()], heads=[nn.Identity()])
"""


@contextmanager
def _process(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "appliance.cli", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
