"""From frames with labels to an engine that can be served."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.cli import modelling
from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError
from appliance.modelling import split as splitting
from appliance.modelling.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_softmax,
)
from appliance.modelling.datasets import (
    ClassFolders,
    Digits,
    Example,
    Part,
    batches,
    open_dataset,
)
from appliance.modelling.networks import build
from appliance.modelling.profile import J_PER_FLOP, answers, measure_latency
from appliance.modelling.run_folder import TrainSpec, read_spec
from appliance.modelling.train import Step, train
from tests.engines import tiny_engine

DIGITS = Path("engines/digits")
GREY = InputSpec(shape=(1, 96, 96), mean=(0.5,), std=(0.5,))


def delen(*words: object) -> Result:
    """Runs `delen` with these words; an error of ours is raised, as to the command's main."""
    app = typer.Typer()
    modelling.register(app)
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("dataset") / "small")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A run folder of one epoch over four frames."""
    out = tmp_path_factory.mktemp("runs") / "small"
    train(small_spec(dataset), ClassFolders(dataset), out, report=say_nothing)
    return out


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """The engine folder that a split of that run gives."""
    out = tmp_path_factory.mktemp("engines") / "small"
    splitting.split(run, out, max_frames=3)
    return out


# Frames with labels.


def test_a_frame_of_a_scan_is_always_the_same() -> None:
    first, second = (Digits().examples(Part.TEST)[7].read() for _ in range(2))

    assert first == second


def test_another_view_of_a_scan_is_another_frame() -> None:
    digits = Digits()

    first, second = (digits.examples(Part.TRAIN, view=view)[7].read() for view in (1, 2))

    assert first != second


def test_no_scan_is_in_two_parts() -> None:
    digits = Digits()

    names = [example.name for part in Part for example in digits.examples(part)]

    assert len(names) == len(set(names)) == 1797


def test_every_digit_is_held_out_equally_often() -> None:
    labels = [example.label for example in Digits().examples(Part.TEST)]

    assert {label: labels.count(label) for label in labels} == {str(d): 36 for d in range(10)}


def test_sub_folders_named_by_part_are_the_parts(dataset: Path) -> None:
    folders = ClassFolders(dataset)

    sizes = {part: len(folders.examples(part)) for part in Part}

    assert folders.labels == ("0", "1")
    assert sizes == {Part.TRAIN: 4, Part.VALID: 4, Part.TEST: 4}


def test_a_folder_without_parts_is_all_for_testing(dataset: Path) -> None:
    folders = ClassFolders(dataset / "test")

    assert len(folders.examples(Part.TEST)) == 4
    assert folders.examples(Part.VALID) == []


def test_a_missing_dataset_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match=r"missing: name one that holds a sub-folder"):
        open_dataset(None, tmp_path / "missing")


def test_an_empty_class_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()

    with pytest.raises(ModellingError, match=r"7 is empty"):
        ClassFolders(tmp_path).examples(Part.TEST)


def test_a_corrupt_frame_is_refused_by_name() -> None:
    example = Example(name="broken.jpg", label="0", read=lambda: b"\xff\xd8\xff broken")

    with pytest.raises(ModellingError, match=r"broken\.jpg is no frame to learn from"):
        list(batches([example], 1, labels=["0"], spec=GREY, kind=Kind.IMAGE))


def test_a_label_that_the_network_lacks_is_refused_by_name() -> None:
    example = Digits().examples(Part.TEST)[0]

    with pytest.raises(ModellingError, match=f"{example.name} has the label {example.label}"):
        list(batches([example], 1, labels=["cat"], spec=GREY, kind=Kind.IMAGE))


# Training.


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


# Splitting.


def test_the_stages_of_a_split_answer_as_the_network_does(run: Path, engine: Path) -> None:
    network = build("digits", classes=2).eval()
    network.load_state_dict(torch.load(run / "weights.pth"))

    error = splitting.max_relative_error(network, manifest.load(engine))

    assert error < 1e-4


def test_no_weight_is_in_two_stages(engine: Path) -> None:
    exported = [
        math.prod(tensor.dims)
        for path in engine.glob("*.onnx")
        for tensor in onnx.load(path).graph.initializer
    ]
    parameters = sum(p.numel() for p in build("digits", classes=2).parameters())

    assert sum(exported) <= parameters


def test_exported_stages_name_no_path_of_the_machine(engine: Path) -> None:
    here = str(Path.cwd()).encode()

    assert not any(here in path.read_bytes() for path in engine.glob("*.onnx"))


def test_a_stage_costs_two_operations_for_each_multiply_add(engine: Path) -> None:
    entry, block, head = 48 * 48 * 24 * 1 * 9, 2 * 48 * 48 * 24 * 24 * 9, 24 * 3 * 3 * 2

    flops = manifest.load(engine).stages[0].flops

    assert flops == 2 * (entry + 2 * block + head)


def test_held_out_frames_come_along_from_all_labels(engine: Path) -> None:
    labels = sorted(path.parent.name for path in (engine / "frames").rglob("*.jpg"))

    assert labels == ["0", "0", "1"]


def test_an_export_that_differs_leaves_the_old_engine(
    run: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (engine / "stage0.onnx").stat()
    monkeypatch.setattr(splitting, "TOLERANCE", 0.0)

    with pytest.raises(ModellingError, match="is left as it was"):
        splitting.split(run, engine, max_frames=0)

    assert (engine / "stage0.onnx").stat() == before


def test_weights_of_another_network_are_refused_by_name(run: Path, tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "weights.pth")
    (tmp_path / "train_spec.yaml").write_text((run / "train_spec.yaml").read_text())

    with pytest.raises(ModellingError, match=r"weights\.pth does not hold weights of this network"):
        splitting.split(tmp_path, tmp_path / "engine", max_frames=0)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match=r"holds no train_spec\.yaml"):
        splitting.split(tmp_path, tmp_path / "engine", max_frames=0)


# Calibration.


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(20_000, 5)).astype(np.float32)
    cumulated = np.exp(log_softmax(logits)).cumsum(axis=1)
    classes = (cumulated < rng.random((20_000, 1))).sum(axis=1).clip(max=4)

    assert fit_temperature(3 * logits, classes) == pytest.approx(3.0, rel=0.05)


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    sure = np.array([[math.log(9.0), 0.0]] * 10, dtype=np.float32)
    half_of_them_right = np.array([0] * 5 + [1] * 5)

    error = expected_calibration_error(sure, half_of_them_right, 1.0)

    assert error == pytest.approx(0.4, abs=1e-6)


# Profiling.


def test_latency_is_of_each_stage_and_batch_size(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))
    ticks = itertools.count()

    with OnnxBackend(engine) as backend:
        latencies = measure_latency(
            backend, engine, batches=(1, 4), runs=3, clock=lambda: float(next(ticks))
        )

    assert [sorted(latency) for latency in latencies] == [[1, 4]] * 4
    assert {latency[size].p95_s for latency in latencies for size in (1, 4)} == {1.0}


def test_energy_is_modelled_from_published_measurements() -> None:
    resnet50_flops = 2 * 4.144599296e9

    assert resnet50_flops * J_PER_FLOP == pytest.approx(0.24355, rel=0.06)


def test_a_profile_is_printed_and_kept_in_the_manifest(engine: Path, dataset: Path) -> None:
    words = ["profile", engine, "--dataset-dir", dataset, "--batches", "1,2", "--runs", 2, "--json"]

    findings = json.loads(delen(*words).stdout)

    stage = manifest.load(engine).stages[3]
    assert findings["exits"][3]["accuracy"] == stage.accuracy
    assert findings["exits"][3]["temperature"] == stage.temperature
    assert sorted(stage.latency) == [1, 2]
    assert stage.energy_j == pytest.approx((stage.flops or 0) * J_PER_FLOP, rel=1e-3)


def test_a_profile_is_shown_as_tables(engine: Path) -> None:
    shown = delen("profile", engine, "--batches", "1", "--runs", 2).stdout

    assert "calibration error" in shown
    assert "no validation frames" in shown


def test_profiling_needs_no_torch() -> None:
    check = (
        "import sys; import appliance.cli.modelling, appliance.modelling.profile;"
        " sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# The engine that comes with the appliance.


def test_the_digits_engine_is_as_accurate_as_its_manifest_says() -> None:
    engine = manifest.load(DIGITS)
    examples = ClassFolders(DIGITS / "frames").examples(Part.TEST)

    with OnnxBackend(engine) as backend:
        measured = answers(engine, backend, examples)

    accuracies = [measured.accuracy(exit_) for exit_ in range(4)]
    assert accuracies == pytest.approx([stage.accuracy for stage in engine.stages], abs=0.003)
    assert accuracies[3] >= 0.97


def test_no_exit_of_the_digits_engine_is_dominated() -> None:
    assert manifest.load(DIGITS).dominated_exits == ()


def test_the_frames_of_the_digits_engine_are_the_held_out_ones() -> None:
    committed = {path.name: path.read_bytes() for path in (DIGITS / "frames").rglob("*.jpg")}
    held_out = {example.name: example.read() for example in Digits().examples(Part.TEST)}

    differences = [
        np.abs(_pixels(committed[name]) - _pixels(held_out[name])).mean() for name in committed
    ]

    assert committed.keys() == held_out.keys()
    # Another version of the JPEG library may round otherwise.
    assert max(differences) < 2.0


def test_the_digits_engine_is_small_enough_to_keep_in_the_repository() -> None:
    sizes_bytes = [path.stat().st_size for path in DIGITS.rglob("*") if path.is_file()]

    assert sum(sizes_bytes) < 4_000_000


def _pixels(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.float32)
