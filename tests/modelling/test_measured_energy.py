"""Joules of stages by a meter: how power is averaged, and what a stand-in for a board sees."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.errors import MeterError
from appliance.modelling.profiling.energy import measure_energy, power_between
from appliance.power.meters import MeterOptions
from appliance.power.protocol import Reading
from tests.modelling.runs import delen
from tests.power.lines import ORIN_NANO
from tests.power.test_meters import a_program

pytestmark = pytest.mark.training

DIGITS = Path("engines/digits")
BUSY_W = 30.0
FOLLOWS_THIS_PROCESS = f"{sys.executable} -m appliance.demo.tegrastats --idle 4.5 --busy {BUSY_W:g}"


def readings(*samples: tuple[float, float], rail: str = "VDD_IN") -> list[Reading]:
    return [
        Reading(time_s=time_s, rails_w={rail: watts}, total_of=(rail,), temperatures_c={})
        for time_s, watts in samples
    ]


def test_power_is_averaged_over_time_and_not_over_readings() -> None:
    uneven = readings((0.0, 2.0), (0.1, 2.0), (0.2, 2.0), (0.3, 2.0), (1.3, 4.0))

    mean_w, _ = power_between(uneven, 0.0, 1.3)

    assert mean_w == pytest.approx((0.3 * 2.0 + 1.0 * 3.0) / 1.3)


def test_the_edges_of_a_window_are_interpolated() -> None:
    rising = readings((0.0, 0.0), (1.0, 10.0), (2.0, 20.0))

    mean_w, _ = power_between(rising, 0.5, 1.5)

    assert mean_w == pytest.approx(10.0)


@pytest.mark.parametrize(
    "gappy",
    [
        readings((0.5, 1.0), (1.0, 1.0), (2.0, 1.0)),
        readings((0.0, 1.0), (1.0, 1.0)),
        readings((0.0, 1.0), (0.1, 1.0), (1.9, 1.0), (2.0, 1.0)),
    ],
)
def test_a_window_that_was_not_seen_whole_has_no_mean(gappy: list[Reading]) -> None:
    with pytest.raises(MeterError, match="left out a part"):
        power_between(gappy, 0.2, 1.95)


def test_readings_of_other_rails_are_not_mixed() -> None:
    changed = readings((0.0, 1.0), (1.0, 1.0)) + readings((2.0, 9.0), rail="VIN")

    with pytest.raises(MeterError, match="rails changed"):
        power_between(changed, 0.0, 2.0)


def test_a_stage_costs_what_the_meter_shows_above_the_idle_machine() -> None:
    engine = manifest.load(DIGITS)
    options = MeterOptions(interval_s=0.05, tegrastats=FOLLOWS_THIS_PROCESS)

    with OnnxBackend(engine, threads=1) as backend:
        measured = measure_energy(
            backend, engine, meter="tegrastats", options=options, window_s=0.5
        )
        feed = backend.feed(np.zeros((1, *engine.input.shape), np.float32))
        began_s = time.process_time()
        for _ in range(200):
            backend.run(0, [feed])
        run_s = (time.process_time() - began_s) / 200

    assert measured.total_of == ("VDD_IN",)
    assert measured.idle_w == pytest.approx(4.5, abs=3.0)
    assert measured.stages_j[0] == pytest.approx(BUSY_W * run_s, rel=0.4)


def test_a_meter_that_does_not_see_the_stages_measures_none(tmp_path: Path) -> None:
    engine = manifest.load(DIGITS)
    steady = a_program(
        tmp_path,
        f"""
        import time
        while True:
            print({ORIN_NANO!r}, flush=True)
            time.sleep(0.02)
        """,
    )

    options = MeterOptions(tegrastats=steady)
    with (
        OnnxBackend(engine, threads=1) as backend,
        pytest.raises(MeterError, match=r"4\.68 W while stage 0 runs.*does not see"),
    ):
        measure_energy(backend, engine, meter="tegrastats", options=options, window_s=0.2)


def test_a_profile_keeps_measured_energy_and_says_by_what(
    engine: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = shutil.copytree(engine, tmp_path / "measured")
    monkeypatch.setenv("DELEN_TEGRASTATS", FOLLOWS_THIS_PROCESS)
    words = ["profile", engine, "--dataset-dir", dataset, "--batches", "1", "--runs", 2, "--json"]

    findings = json.loads(delen(*words, "--meter", "tegrastats").stdout)

    kept = manifest.load(engine)
    assert (kept.energy_source, findings["energy_source"]) == ("measured", "measured")
    assert findings["meter"]["name"] == "tegrastats"
    assert [e["stage_energy_j"] for e in findings["exits"]] == [s.energy_j for s in kept.stages]


def test_a_profile_without_a_meter_that_works_says_why_and_models(
    engine: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELEN_TEGRASTATS", "no-such-program")
    words = ["profile", engine, "--dataset-dir", dataset, "--batches", "1", "--runs", 2]

    shown = delen(*words, "--meter", "tegrastats")

    assert "energy is not measured here: tegrastats: there is no program" in shown.stderr
    assert manifest.load(engine).energy_source == "modelled"
