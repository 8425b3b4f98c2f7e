"""Measuring an engine, and believing its confidence."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.modelling.profile import J_PER_FLOP, measure_latency
from tests.engines import tiny_engine
from tests.modelling.runs import delen


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
