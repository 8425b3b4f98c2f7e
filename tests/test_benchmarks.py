"""The benchmarks: the form of what they print, never the time they take."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import conditions
from benchmarks.__main__ import NAMES
from benchmarks.report import Finding, report


def test_a_finding_is_one_json_object_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report(Finding(name="x", figure=1.5, unit="ms", goal="< 2", met=True, measured={"a": 1}))

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "name": "x",
        "figure": 1.5,
        "unit": "ms",
        "goal": "< 2",
        "met": True,
        "measured": {"a": 1},
    }


def test_a_benchmark_measures_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "CALLS", 100)
    monkeypatch.setattr(conditions, "ROUNDS", 3)

    finding = conditions.measure()

    assert finding.name == "conditions"
    assert finding.figure > 0
    assert finding.met == (finding.figure < conditions.GOAL_US)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_imported_by_its_name(name: str) -> None:
    subprocess.run([sys.executable, "-c", f"import benchmarks.{name}"], check=True)
