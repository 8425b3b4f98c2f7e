"""`delen run`: Dělen's own example, with our engines and with a folder in its layout."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from appliance.cli.main import main
from tests.engines import seed_engine, tiny_engine

RESNET50 = [
    {"accuracy": 0.4354, "flops": 0.812877056, "energy": 45.99},
    {"accuracy": 0.6803, "flops": 1.856489216, "energy": 99.31},
    {"accuracy": 0.7675, "flops": 3.3319175679999997, "energy": 176.75},
    {"accuracy": 0.7657, "flops": 4.144599296, "energy": 243.55},
]


def delen(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Runs the command in this process; its exit code."""
    monkeypatch.setattr("sys.argv", ["delen", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        main()
    return int(exited.value.code or 0)


def conditions(path: Path, *items: dict[str, object]) -> Path:
    path.write_text(json.dumps(items))
    return path


def at_exit(number: int) -> dict[str, object]:
    return {"metric": "exit", "op": "greater_eq", "threshold": number}


def test_it_runs_under_one_file_then_the_other_and_prints_a_line_per_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tiny_engine(tmp_path / "tiny")
    first = conditions(tmp_path / "a.json", *[at_exit(1)] * 4)
    second = conditions(tmp_path / "b.json", *[at_exit(3)] * 4)

    code = delen(
        monkeypatch,
        *("run", engine, "--conditions", first, "--conditions", second, "--seconds", 0.1),
    )

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("task")]
    pattern = r"task FINISHED, response time: \d+\.\d\d, exit#: (\d)"
    exits = [match[1] for line in lines if (match := re.fullmatch(pattern, line))]
    assert code == 0
    assert len(exits) == len(lines)
    assert sorted(set(exits)) == ["1", "3"]
    assert exits == sorted(exits)


def test_json_prints_the_summary_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tiny_engine(tmp_path / "tiny")
    path = conditions(tmp_path / "a.json", *[at_exit(2)] * 4)

    delen(monkeypatch, "run", engine, "--conditions", path, "--seconds", 0.05, "--json")

    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["conditions"] == str(path)
    assert summary["exits"] == {"0": 0, "1": 0, "2": summary["tasks"], "3": 0}
    assert summary["tasks"] > 0
    assert set(summary["response_time_ms"]) == {"p50", "p95", "p99"}


def test_a_folder_in_delens_own_layout_runs_with_its_own_conditions_in_its_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)
    over_50_mj = {"metric": "energy", "op": "greater", "threshold": 50}
    conditions(folder / "conditions_50mj.json", *[over_50_mj] * 4)

    delen(monkeypatch, "run", folder, "--seconds", 0.05, "--json")

    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["exits"]["1"] == summary["tasks"] > 0


def test_conditions_from_elsewhere_are_in_joules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)
    over_50_mj = {"metric": "energy", "op": "greater", "threshold": 0.05}
    path = conditions(tmp_path / "50mj.json", *[over_50_mj] * 4)

    delen(monkeypatch, "run", folder, "--conditions", path, "--seconds", 0.05, "--json")

    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["exits"]["1"] == summary["tasks"] > 0


def test_a_list_of_the_wrong_length_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tiny_engine(tmp_path / "tiny")
    path = conditions(tmp_path / "a.json", at_exit(0))

    code = delen(monkeypatch, "run", engine, "--conditions", path, "--seconds", 0.05)

    assert code == 1
    assert "1 conditions for the 4 exits of tiny" in capsys.readouterr().err


def test_a_folder_that_is_no_engine_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = delen(monkeypatch, "run", tmp_path, "--seconds", 0.05)

    assert code == 1
    assert "is no engine folder" in capsys.readouterr().err
