"""`delen simulate`: policies under a load, from the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.store import Store
from tests.engines import tiny_engine
from tests.stores import Gateway, result
from tests.test_run_command import delen

GATE = "tenant: gate\nversion: 1\nengine: tiny\nbounds: {response_time: 100ms}\n"
METER = "tenant: meter\nversion: 4\nengine: tiny\nexit_when: exit >= 1\n"


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    tiny_engine(tmp_path / "engines" / "tiny")
    return tmp_path / "engines"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(GATE)
    return path


@pytest.fixture
def meter(tmp_path: Path) -> Path:
    path = tmp_path / "meter.yaml"
    path.write_text(METER)
    return path


def findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> dict[str, Any]:
    assert delen(monkeypatch, "simulate", *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_says_for_each_tenant_what_became_of_its_requests(
    engines: Path, gate: Path, meter: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = findings(
        monkeypatch, capsys, gate, meter, "--engine", engines,
        "--trace", "poisson:gate=5,meter=2", "--seconds", "2min", "--exact",
    )  # fmt: skip

    first, second = found["tenants"]
    assert (first["tenant"], first["policy_version"], first["engine"]) == ("gate", 1, "tiny")
    assert first["requests"] == pytest.approx(600, rel=0.15)
    assert second["requests"] == pytest.approx(240, rel=0.25)
    assert first["exits"] == {"0": 0, "1": 0, "2": 0, "3": first["answers"]}
    assert second["exits"] == {"0": 0, "1": second["answers"], "2": 0, "3": 0}
    assert (first["bound_kept"], second["bound_kept"]) == (1.0, None)
    assert first["response_time_ms"]["p50"] == pytest.approx(4.0)
    assert first["energy_j"] == pytest.approx(0.1 * first["answers"])
    assert first["accuracy"] == pytest.approx(0.9, abs=0.05)
    assert (first["rejected"], first["modes"]) == ({}, {"policy": 1.0})


def test_the_table_has_a_row_a_tenant(
    engines: Path, gate: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = delen(
        monkeypatch, "simulate", gate, "--engine", engines / "tiny",
        "--trace", "poisson:2000", "--seconds", "1s",
    )  # fmt: skip

    printed = capsys.readouterr().out
    assert code == 0
    assert "gate" in printed
    assert "rejected, 429 too many requests" in printed
    assert "answers are drawn from the profile" in printed


def test_the_picture_is_a_png(
    engines: Path, gate: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"

    findings(
        monkeypatch, capsys, gate, "--engine", engines,
        "--trace", "bursty:1..50@5s/5s", "--seconds", "30s", "--png", path,
    )  # fmt: skip

    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("*.partial")) == []


def test_a_file_is_played_as_far_as_is_asked_for(
    engines: Path, gate: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    trace = tmp_path / "trace.csv"
    trace.write_text("time,tenant\n" + "".join(f"{n},gate\n" for n in range(10)))
    given = (gate, "--engine", engines, "--trace", trace)

    whole = findings(monkeypatch, capsys, *given)
    part = findings(monkeypatch, capsys, *given, "--seconds", "4s")

    assert [found["tenants"][0]["requests"] for found in (whole, part)] == [10, 4]


def test_the_log_is_replayed_with_the_policies_that_are_kept(
    engines: Path, gate: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    database, start_s = tmp_path / "delen.db", time.time() - 600.0
    replies = [
        *(result(n, tenant="gate", arrived_s=start_s + n) for n in range(20)),
        *(result(100 + n, tenant="meter", arrived_s=start_s + 5 + n) for n in range(7)),
        result(200, tenant="stranger", arrived_s=start_s + 1),
        result(300, tenant="gate", arrived_s=start_s - 7200.0),
    ]
    gateway = Gateway()
    with Store(database, max_age_s=1e9, max_bytes=10**9, on_logged=gateway.logged) as store:
        store.save_policy("meter", 4, METER)
        for reply in replies:
            store.log(reply, delivery=1, key=None)
        gateway.wait_for(len(replies))

    found = findings(
        monkeypatch, capsys, gate, "--engine", engines,
        "--trace", "log:1h", "--database", database, "--exact",
    )  # fmt: skip

    assert {t["tenant"]: t["requests"] for t in found["tenants"]} == {"gate": 20, "meter": 7}
    assert found["tenants"][1]["policy_version"] == 4
    assert found["left_out"] == {"stranger": 1}
    assert found["seconds"] == pytest.approx(19.004)


def test_mistakes_in_policies_are_shown_at_their_places(
    engines: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bad, lost = tmp_path / "bad.yaml", tmp_path / "lost.yaml"
    bad.write_text(GATE + "exit_when: confidenc > 0.9\n")
    lost.write_text(GATE.replace("tiny", "huge"))

    code = delen(monkeypatch, "simulate", bad, lost, "--engine", engines, "--trace", "poisson:1")

    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    assert lines[0].startswith(f"{bad}:5:1: ")
    assert lines[1] == f"{lost}:3:1: no engine `huge`; engines here: tiny"


@pytest.mark.parametrize(
    ("trace", "complaint"),
    [
        ("poisson:-3", "poisson:-3: -3 is too little"),
        ("poisson:meter=3", "the trace and the policies differ in gate, meter"),
        ("nowhere.csv", "nowhere.csv is no trace"),
        ("log:1h", "There is no database"),
    ],
)
def test_a_trace_that_cannot_be_played_is_said_in_a_sentence(
    engines: Path, gate: Path, tmp_path: Path, trace: str, complaint: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code = delen(
        monkeypatch, "simulate", gate, "--engine", engines, "--trace", trace,
        "--database", tmp_path / "none.db",
    )  # fmt: skip

    said = capsys.readouterr().err
    assert code == 1
    assert complaint in said
    assert len(said.splitlines()) == 1


def test_an_empty_log_is_said_in_a_sentence(
    engines: Path, gate: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    database, gateway = tmp_path / "delen.db", Gateway()
    with Store(database, max_age_s=1e9, max_bytes=10**9, on_logged=gateway.logged):
        pass

    code = delen(
        monkeypatch, "simulate", gate, "--engine", engines, "--trace", "log:1h",
        "--database", database,
    )  # fmt: skip

    assert code == 1
    assert "the log holds no requests of that time" in capsys.readouterr().err


def test_a_folder_without_engines_is_said_in_a_sentence(
    gate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()

    code = delen(
        monkeypatch, "simulate", gate, "--engine", tmp_path / "empty", "--trace", "poisson:1"
    )

    assert code == 1
    assert "is no engine folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("policies", "complaint"),
    [([], "no policy is given"), (["gate", "gate"], "is a second policy of the tenant gate")],
)
def test_each_tenant_has_one_policy(
    engines: Path, gate: Path, policies: list[str], complaint: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    files = [gate for _ in policies]

    code = delen(monkeypatch, "simulate", *files, "--engine", engines, "--trace", "poisson:1")

    assert code == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--seconds", "0s"], ["--seconds", "soon"], ["--pace", "0"]])
def test_wrong_usage_is_exit_code_2(
    engines: Path, gate: Path, wrong: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = delen(monkeypatch, "simulate", gate, "--engine", engines, "--trace", "poisson:1", *wrong)

    assert code == 2
