"""From trained weights to an engine folder."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.errors import ModellingError
from appliance.modelling import split as splitting
from appliance.modelling.datasets import ClassFolders
from appliance.modelling.networks import build
from appliance.modelling.onnx_export import flops
from appliance.modelling.training.train import train
from tests.modelling.runs import OWN_NETWORK, delen, say_nothing, small_spec
from tests.waiting import wait_until

pytestmark = pytest.mark.training


def test_the_stages_of_a_split_answer_as_the_network_does(run: Path, engine: Path) -> None:
    network = build("digits", classes=2).eval()
    network.load_state_dict(torch.load(run / "weights.pth"))

    answers = _answers(engine)

    with torch.inference_mode():
        for logits, wanted in zip(answers, network(torch.from_numpy(_NOISE)), strict=True):
            torch.testing.assert_close(torch.from_numpy(logits), wanted, rtol=1e-3, atol=1e-4)


def test_exits_that_answer_with_sums_are_served_so(dataset: Path, tmp_path: Path) -> None:
    spec = replace(small_spec(dataset), loss="residual", evaluation="residual")
    train(spec, ClassFolders(dataset), tmp_path / "run", report=say_nothing)
    splitting.split(tmp_path / "run", tmp_path / "engine", max_frames=0)
    network = build("digits", classes=2).eval()
    network.load_state_dict(torch.load(tmp_path / "run" / "weights.pth"))

    answers = _answers(tmp_path / "engine")

    with torch.inference_mode():
        own = network(torch.from_numpy(_NOISE))
    torch.testing.assert_close(torch.from_numpy(answers[1]), own[0] + own[1], rtol=1e-3, atol=1e-4)


def test_a_whole_model_is_an_engine_with_the_last_exit(
    run: Path, engine: Path, tmp_path: Path
) -> None:
    delen("split", run, "--out", tmp_path / "whole", "--granularity", "model", "--frames", 0)

    (whole,) = _answers(tmp_path / "whole")

    np.testing.assert_allclose(whole, _answers(engine)[-1], rtol=1e-3, atol=1e-4)


def test_blocks_are_a_chain_of_files_with_their_costs(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(OWN_NETWORK)
    run, out = tmp_path / "run", tmp_path / "blocks"
    own = f"{tmp_path}/my_net.py:build"
    delen("train", "-m", own, "--dataset-dir", dataset, "-n", 1, "-b", 4, "--out", run)

    delen("split", run, "--out", out, "--granularity", "block")

    described = yaml.safe_load((out / "blocks.yaml").read_text())["blocks"]
    assert {block["onnx"] for block in described} == {path.name for path in out.glob("*.onnx")}
    last_head = 6 * 2 + 2
    assert [block["parameters"] for block in described] == [4 * 9 + 4, 0, 4 * 6 * 9 + 6 + last_head]


def test_parameters_are_counted_per_stage(engine: Path) -> None:
    parameters = [stage.parameters or 0 for stage in manifest.load(engine).stages]

    assert sum(parameters) == sum(p.numel() for p in build("digits", classes=2).parameters())


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


def test_attention_is_counted_although_torch_runs_it_in_one_piece() -> None:
    attention = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval()
    tokens = 5

    counted = flops(attention, torch.zeros(1, tokens, 8))

    projections, feed_forward = 4 * 8 * 8, 2 * 8 * 16
    scores = 2 * tokens * 8
    assert counted == 2 * tokens * (projections + feed_forward + scores)


def test_a_split_that_is_told_to_end_leaves_the_old_engine_and_nothing_else(
    run: Path, engine: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    shutil.copytree(engine, out)
    before = (out / "engine.yaml").read_bytes()
    words = [sys.executable, "-m", "appliance.cli", "split", str(run), "--out", str(out)]

    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as splitting_:
        wait_until(lambda: any(tmp_path.glob(".parts-*/new/stage0.onnx")), patience_s=90.0)
        splitting_.terminate()

    assert splitting_.returncode == 128 + signal.SIGTERM
    assert (out / "engine.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_too_little_memory_for_an_export_is_said_in_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(splitting, "export", starve)

    with pytest.raises(ModellingError, match=r"too little memory to export .* is left as it was"):
        splitting.split(run, tmp_path / "engine", max_frames=0)

    assert not any(tmp_path.iterdir())


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

    with pytest.raises(ModellingError, match=r"weights\.pth does not hold weights of digits"):
        splitting.split(tmp_path, tmp_path / "engine", max_frames=0)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match=r"holds no train_spec\.yaml"):
        splitting.split(tmp_path, tmp_path / "engine", max_frames=0)


@pytest.mark.parametrize("text", ["[]", "network: digits", "epochs: {", "\0"])
def test_a_spec_that_is_none_is_refused_in_one_line(text: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "train_spec.yaml").write_text(text)
    (tmp_path / "weights.pth").write_bytes((run / "weights.pth").read_bytes())

    with pytest.raises(ModellingError, match=r"train_spec\.yaml does not say") as refused:
        splitting.split(tmp_path, tmp_path / "engine", max_frames=0)

    assert "\n" not in str(refused.value)


def test_an_engine_is_named_after_its_run_where_nothing_else_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    delen("split", run, "--frames", 0, "--granularity", "model")

    assert (tmp_path / "engines" / "small" / "engine.yaml").is_file()


def test_a_dataset_that_is_gone_says_how_to_split_without_it(run: Path, tmp_path: Path) -> None:
    spec = (run / "train_spec.yaml").read_text()
    lost = "\n".join(
        f"dataset_dir: {tmp_path}/lost" if line.startswith("dataset_dir") else line
        for line in spec.splitlines()
    )
    (tmp_path / "train_spec.yaml").write_text(lost)
    (tmp_path / "weights.pth").write_bytes((run / "weights.pth").read_bytes())

    with pytest.raises(ModellingError, match=r"lost.*without any: --frames 0"):
        splitting.split(tmp_path, tmp_path / "engine", max_frames=10)


_NOISE = np.random.default_rng(0).standard_normal((1, 1, 96, 96), dtype=np.float32)


def _answers(folder: Path) -> list[NDArray[np.float32]]:
    """What every exit of an engine says to noise, as the appliance runs it."""
    engine = manifest.load(folder)
    with OnnxBackend(engine, threads=1) as backend:
        features = [backend.feed(_NOISE)]
        answers = []
        for stage in range(len(engine.stages)):
            logits, following = backend.run(stage, features)
            answers.append(logits.copy())
            features = list(following)
    return answers
