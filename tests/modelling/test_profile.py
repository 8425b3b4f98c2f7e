"""Measuring an engine, and believing its confidence."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.errors import ModellingError
from appliance.modelling.profiling.latency import measure_latency
from appliance.modelling.profiling.profile import J_PER_FLOP
from appliance.modelling.profiling.thresholds import TABLE
from appliance.plan import compile_plan
from appliance.policy import parse_policy
from tests.engines import tiny_engine
from tests.modelling.runs import delen
from tests.modelling.trees import write_wav

pytestmark = pytest.mark.training


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


def test_a_profile_is_shown_as_tables_and_as_a_picture(engine: Path) -> None:
    shown = delen("profile", engine, "--batches", "1", "--runs", 2).stdout

    assert "ECE" in shown
    assert "no validation frames: the temperatures are as they were" in shown
    with Image.open(engine / "profile.png") as picture:
        assert picture.width > 800


def test_calibration_errors_and_the_table_of_thresholds_are_kept(
    engine: Path, dataset: Path
) -> None:
    delen("profile", engine, "--dataset-dir", dataset, "--batches", "1", "--runs", 2)

    kept = manifest.load(engine)
    assert all(stage.calibration_error is not None for stage in kept.stages)
    assert [row.threshold for row in kept.thresholds] == list(TABLE)
    assert all(sum(row.exit_shares) == pytest.approx(1.0, abs=0.001) for row in kept.thresholds)


def test_validation_frames_serve_for_both_where_none_are_held_out(
    engine: Path, dataset: Path, tmp_path: Path
) -> None:
    for part in ("train", "valid"):
        shutil.copytree(dataset / part, tmp_path / part)

    shown = delen(
        "profile", engine, "--dataset-dir", tmp_path, "--batches", "1", "--runs", 2
    ).stdout

    assert "no test frames: what the validation frames gave was judged by them too" in shown


def test_accuracy_and_thresholds_are_of_the_validation_frames_and_tests_are_told_beside(
    engine: Path, dataset: Path, tmp_path: Path
) -> None:
    # With its labels swapped, the test part is wrong exactly where the validation part is right.
    shutil.copytree(dataset / "valid", tmp_path / "valid")
    for label, other in (("0", "1"), ("1", "0")):
        shutil.copytree(dataset / "valid" / label, tmp_path / "test" / other)
    words = ["--dataset-dir", tmp_path, "--batches", "1", "--runs", 2, "--json"]

    findings = json.loads(delen("profile", engine, *words).stdout)

    kept = manifest.load(engine)
    accuracies = [(e["accuracy"], e["test_accuracy"]) for e in findings["exits"]]
    assert [valid for valid, _ in accuracies] == [stage.accuracy for stage in kept.stages]
    assert [valid + test for valid, test in accuracies] == pytest.approx([1.0] * 4, abs=1e-3)
    last = [e["accuracy"] for e in findings["exits"]][-1]
    never_early = [row for row in findings["thresholds"] if row["exit_shares"][-1] == 1.0]
    assert all(row["accuracy"] == last for row in never_early)


def test_one_frame_cannot_both_find_thresholds_and_judge_them(engine: Path) -> None:
    frames = sorted((engine / "frames").rglob("*.jpg"))
    alone = shutil.copytree(engine, engine.with_name("alone"), dirs_exist_ok=True)
    for frame in frames[1:]:
        (alone / frame.relative_to(engine)).unlink()
    for label in (alone / "frames").iterdir():
        if not any(label.iterdir()):
            label.rmdir()

    with pytest.raises(ModellingError, match="one frame cannot both find thresholds"):
        delen("profile", alone, "--batches", "1", "--runs", 2, "--suggest", "accuracy >= final")


def test_a_suggestion_ends_in_a_policy(dataset: Path, engine: Path) -> None:
    source = ["--dataset-dir", dataset, "--batches", "1", "--runs", 2]

    shown = delen("profile", engine, *source, "--suggest", "accuracy >= final - 1%").stdout

    policy = "tenant: gate\nversion: 1\nengine:" + shown.split("\nengine:")[1].split("\n\n")[0]
    plan = compile_plan(parse_policy(policy), manifest.load(engine))
    assert len(plan.predicates) == 4


def test_a_suggestion_says_what_it_comes_to_on_other_frames(dataset: Path, engine: Path) -> None:
    source = ["--dataset-dir", dataset, "--batches", "1", "--runs", 2, "--json"]

    findings = json.loads(
        delen("profile", engine, *source, "--suggest", "accuracy >= final - 50%").stdout
    )

    suggestion = findings["suggestion"]
    assert len(suggestion["thresholds"]) == 3
    assert suggestion["validation_accuracy"] >= 0.0
    cut = 1 - suggestion["latency_s"] / suggestion["final_latency_s"]
    assert suggestion["latency_cut"] == pytest.approx(cut)


def test_frames_of_another_kind_are_refused(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "hum").mkdir()
    write_wav(tmp_path / "hum" / "1.wav", pitch_hz=50.0)

    with pytest.raises(ModellingError, match="takes image frames, but the dataset holds audio"):
        delen("profile", engine, "--dataset-dir", tmp_path)


def test_profiling_needs_no_torch() -> None:
    check = (
        "import sys; import appliance.cli.profile, appliance.cli.import_delen;"
        " sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
