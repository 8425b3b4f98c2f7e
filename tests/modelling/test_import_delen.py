"""Folders of Dělen's own repository as engines."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from appliance import manifest
from appliance.engine import Kind
from appliance.errors import ModellingError
from tests.engines import seed_engine
from tests.modelling.runs import delen

# The first two exits of Dělen's own ResNet-50.
PROFILE = [
    {"accuracy": 0.4354, "flops": 0.812877056, "energy": 45.99},
    {"accuracy": 0.6803, "flops": 1.856489216, "energy": 99.31},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = seed_engine(tmp_path / "resnet50", PROFILE)
    (folder / "conditions_20ms.json").write_text("[]")
    (folder / "trt" / "resnet50_net0.engine").write_bytes(b"of another board")
    return folder


def test_it_becomes_an_engine_with_its_figures_and_its_conditions(
    folder: Path, tmp_path: Path
) -> None:
    delen("import-delen", folder, "--out", tmp_path / "engine")

    engine = manifest.load(tmp_path / "engine")
    assert [stage.accuracy for stage in engine.stages] == [0.4354, 0.6803]
    assert engine.stages[1].energy_j == pytest.approx(0.05332)
    assert {path.name for path in (tmp_path / "engine").iterdir()} == {
        "engine.yaml",
        "stage0.onnx",
        "stage1.onnx",
        "conditions_20ms.json",
    }


def test_it_runs_under_the_conditions_that_came_along(folder: Path, tmp_path: Path) -> None:
    greedy = {"metric": "exit", "op": "greater_eq", "threshold": 0}
    (folder / "conditions_20ms.json").write_text(json.dumps([greedy, greedy]))
    delen("import-delen", folder, "--out", tmp_path / "engine")

    (ran,) = json.loads(delen("run", tmp_path / "engine", "--seconds", 0.1, "--json").stdout)

    assert ran["exits"]["1"] == 0


def test_colour_images_are_normalised_as_they_were_in_training(
    folder: Path, tmp_path: Path
) -> None:
    delen("import-delen", folder, "--out", tmp_path / "engine")
    delen("import-delen", folder, "--out", tmp_path / "plain", "--no-normalise")

    assert manifest.load(tmp_path / "engine").input.mean == (0.485, 0.456, 0.406)
    assert manifest.load(tmp_path / "plain").input.mean == ()


def test_labels_come_from_a_file_or_from_the_command(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")

    delen("import-delen", folder, "--out", tmp_path / "one", "--labels", tmp_path / "labels.txt")
    delen("import-delen", folder, "--out", tmp_path / "two", "--labels", "cat, dog, owl")

    for name in ("one", "two"):
        assert manifest.load(tmp_path / name).labels == ("cat", "dog", "owl")


def test_labels_of_another_number_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match="2 labels for the 3 classes"):
        delen("import-delen", folder, "--out", tmp_path / "engine", "--labels", "cat,dog")

    assert not (tmp_path / "engine").exists()


def test_stages_without_a_profile_become_an_engine_to_be_profiled(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "resnet50_profile.json").unlink()

    delen("import-delen", folder, "--out", tmp_path / "engine", "--kind", "tensor")

    engine = manifest.load(tmp_path / "engine")
    assert engine.kind is Kind.TENSOR
    assert [stage.accuracy for stage in engine.stages] == [None, None]


def test_stages_that_do_not_fit_leave_the_old_engine(folder: Path, tmp_path: Path) -> None:
    delen("import-delen", folder, "--out", tmp_path / "engine")
    before = (tmp_path / "engine" / "stage1.onnx").read_bytes()
    stage = folder / "trt" / "resnet50_net1.onnx"
    model = onnx.load(stage)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 9
    onnx.save(model, stage)

    with pytest.raises(ModellingError, match=r"stage1\.onnx takes the shape"):
        delen("import-delen", folder, "--out", tmp_path / "engine")

    assert (tmp_path / "engine" / "stage1.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [("", "there is no folder"), ("trt/*.onnx", "has no ONNX stages in trt/")],
)
def test_what_is_missing_is_named(lost: str, complaint: str, folder: Path, tmp_path: Path) -> None:
    for path in folder.glob(lost or "nothing"):
        path.unlink()

    with pytest.raises(ModellingError, match=complaint):
        delen("import-delen", folder if lost else tmp_path / "lost")
