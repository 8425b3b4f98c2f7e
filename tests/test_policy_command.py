"""`delen policy`: check, explain, push and show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.broker import Mosquitto
from tests.appliances import serving, settings_for
from tests.engines import tiny_engine
from tests.test_run_command import delen

POLICY = """\
tenant: gate
version: 1
engine: tiny
bounds: {response_time: 3500us, energy: 40mJ, accuracy: 75%}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(POLICY)
    return path


def test_check_prints_every_mistake_at_its_place_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("tenant: gate\nversion: one\nengine: tiny\nexit_when: confidenc > 0.9\n")

    code = delen(monkeypatch, "policy", "check", path)

    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert [line.rpartition(": ")[0].split(": ")[0] for line in lines] == [
        f"{path}:2:1",
        f"{path}:4:1",
    ]
    assert "did you mean `confidence`?" in lines[1]


def test_check_of_good_files_prints_nothing_and_exits_0(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = delen(monkeypatch, "policy", "check", policy, "conditions/gate.yaml")

    assert code == 0
    assert capsys.readouterr().out == ""


def test_explain_says_which_exits_can_be_reached_and_what_conflicts(
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")

    code = delen(
        monkeypatch, "policy", "explain", policy, "--engines", tmp_path / "engines", "--json"
    )

    findings = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [exit_["reachable"] for exit_ in findings["exits"]] == [True, True, False, False]
    assert [exit_["broken"] for exit_ in findings["exits"]] == [
        ["accuracy"],
        ["accuracy"],
        ["energy"],
        ["response_time", "energy"],
    ]
    assert findings["conflicts"] == [
        (
            "no exit keeps bounds.response_time and bounds.energy and bounds.accuracy together:"
            " accuracy gives way"
        )
    ]


def test_explain_for_people_fits_the_screen(
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    monkeypatch.setenv("COLUMNS", "80")

    delen(monkeypatch, "policy", "explain", policy, "--engines", tmp_path / "engines")

    out = capsys.readouterr().out
    assert "bounds: response_time at most 3.5 ms" in out
    assert "accuracy gives way" in out
    assert max(map(len, out.splitlines()[1:-1])) <= 100


def test_push_and_show_speak_with_the_running_appliance(
    broker: Mosquitto,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)
    monkeypatch.setenv("DELEN_MQTT_PORT", str(broker.port))
    monkeypatch.setenv("DELEN_MQTT_HOST", broker.host)
    monkeypatch.setenv("DELEN_TOPIC_PREFIX", settings.topic_prefix)

    with serving(settings):
        accepted = delen(monkeypatch, "policy", "push", policy)
        told = capsys.readouterr().out
        policy.write_text(POLICY.replace("75%", "80%"))
        stale = delen(monkeypatch, "policy", "push", policy)
        capsys.readouterr()
        shown = delen(monkeypatch, "policy", "show", "gate", "--json")
        (state,) = json.loads(capsys.readouterr().out)

    assert (accepted, stale, shown) == (0, 1, 0)
    assert "version 1 on tiny is in force for gate" in told
    assert state["version"] == 1
    assert state["last_rejection"]["code"] == 409


def test_push_without_a_broker_says_so_and_exits_1(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("appliance.session.CONNECT_S", 0.2)
    monkeypatch.setenv("DELEN_MQTT_PORT", "1")

    code = delen(monkeypatch, "policy", "push", policy)

    assert code == 1
    assert "no broker answers at localhost:1" in capsys.readouterr().err
