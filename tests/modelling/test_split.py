"""From trained weights to an engine folder."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch

from appliance import manifest
from appliance.errors import ModellingError
from appliance.modelling import split as splitting
from appliance.modelling.networks import build


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
