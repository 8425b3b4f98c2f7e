"""`delen doctor`: what it finds on a machine, and what it makes of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from appliance import diagnosis
from appliance.broker import Mosquitto
from appliance.cli import doctor
from appliance.diagnosis import Finding, State
from appliance.settings import Settings
from appliance.store import Store
from tests.appliances import settings_for
from tests.conftest import StartBroker
from tests.engines import tiny_engine
from tests.power.test_sensors import ORIN_NANO_RAILS, write

POLICY = "tenant: gate\nversion: 1\nengine: tiny\n"


@pytest.fixture
def settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    """Those of a machine where everything works."""
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)
    (settings.conditions / "gate.yaml").write_text(POLICY)
    return settings


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes those settings this process's own."""
    for name in ("mqtt_host", "mqtt_port", "engines", "conditions", "database"):
        monkeypatch.setenv(f"DELEN_{name.upper()}", str(getattr(settings, name)))


def delen_doctor(*options: str) -> Result:
    app = typer.Typer()
    doctor.register(app)
    return CliRunner().invoke(app, list(options), env={"COLUMNS": "120"})


def only(findings: object) -> Finding:
    assert isinstance(findings, list)
    (finding,) = findings
    assert isinstance(finding, Finding)
    return finding


@pytest.mark.usefixtures("environment")
def test_where_everything_works_it_exits_0() -> None:
    outcome = delen_doctor()

    assert outcome.exit_code == 0, outcome.stdout
    assert "engine tiny" in outcome.stdout
    assert "wrong" not in outcome.stdout


@pytest.mark.usefixtures("environment")
def test_json_is_a_list_of_findings() -> None:
    outcome = delen_doctor("--json")

    findings = json.loads(outcome.stdout)
    states = {finding["subject"]: finding["state"] for finding in findings}
    assert outcome.exit_code == 0
    assert states["meter modelled"] == "ok"
    assert states["engine tiny"] == "ok"
    assert states["broker"] == "ok"
    assert all(finding["detail"] for finding in findings)


@pytest.mark.usefixtures("environment")
def test_what_serving_needs_and_does_not_have_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELEN_MQTT_PORT", "1")

    outcome = delen_doctor("--json")

    broker = next(f for f in json.loads(outcome.stdout) if f["subject"] == "broker")
    assert outcome.exit_code == 1
    assert broker["state"] == "wrong"
    assert "DELEN_MQTT_PORT" in broker["advice"]
    assert "broker" in outcome.stderr


@pytest.mark.usefixtures("environment")
def test_settings_that_cannot_be_read_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELEN_MQTT_PORT", "a door")

    outcome = delen_doctor("--json")

    last = json.loads(outcome.stdout)[-1]
    assert outcome.exit_code == 1
    assert last["subject"] == "settings"
    assert "DELEN_MQTT_PORT" in last["detail"]


@pytest.mark.usefixtures("environment")
def test_a_misspelt_setting_is_wrong_but_does_not_stop_serving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DELEN_MQTT_HOSTS", "elsewhere")

    outcome = delen_doctor("--json")

    (finding,) = (f for f in json.loads(outcome.stdout) if f["subject"] == "settings")
    assert outcome.exit_code == 0
    assert finding["state"] == "wrong"
    assert "did you mean DELEN_MQTT_HOST" in finding["detail"]


def test_a_check_that_fails_is_a_finding_rather_than_a_traceback(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def torn(_settings: Settings) -> list[Finding]:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(diagnosis, "read_settings", lambda: settings)
    monkeypatch.setattr(diagnosis, "database", torn)

    last = list(diagnosis.diagnose())[-1]

    assert last.subject == "torn"
    assert last.state is State.WRONG
    assert "RuntimeError: the disk is gone" in last.detail


def test_a_broker_that_refuses_the_password_is_said_to(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker(users={"box": "its secret"})
    credentials = {"mqtt_username": "box", "mqtt_password": "another"}
    settings = settings_for(broker, tmp_path, **credentials)

    finding = only(list(diagnosis.broker(settings)))

    assert finding.state is State.WRONG
    assert "Not authorized" in finding.detail
    assert "DELEN_MQTT_PASSWORD" in finding.advice


def test_an_engine_that_does_not_load_is_named_with_what_is_wrong(settings: Settings) -> None:
    broken = tiny_engine(settings.engines / "broken")
    (broken / "stage2.onnx").unlink()

    findings = {finding.subject: finding for finding in diagnosis.engines(settings)}

    assert findings["engine tiny"].state is State.OK
    assert findings["engine broken"].state is State.WRONG
    assert "there is no file stage2.onnx" in findings["engine broken"].detail


def test_an_engine_whose_stage_is_no_onnx_is_found_by_opening_it(settings: Settings) -> None:
    (settings.engines / "tiny" / "stage1.onnx").write_bytes(b"no model")

    finding = only(list(diagnosis.engines(settings)))

    assert finding.state is State.WRONG
    assert "cannot be opened by ONNX Runtime" in finding.detail


def test_without_an_engine_nothing_can_be_served(settings: Settings) -> None:
    shutil.rmtree(settings.engines)

    finding = only(list(diagnosis.engines(settings)))

    assert finding.stops_serving
    assert "DELEN_ENGINES" in finding.advice


def test_a_policy_that_is_wrong_is_said_with_its_place(settings: Settings) -> None:
    (settings.conditions / "gate.yaml").write_text(POLICY.replace("version: 1", "version: one"))

    finding = only(list(diagnosis.conditions(settings)))

    assert finding.stops_serving
    assert finding.detail.startswith("2:1: version")
    assert "delen policy check" in finding.advice


def test_a_policy_for_an_engine_that_is_not_there_is_wrong(settings: Settings) -> None:
    (settings.conditions / "gate.yaml").write_text(POLICY.replace("tiny", "huge"))

    finding = only(list(diagnosis.conditions(settings)))

    assert finding.state is State.WRONG
    assert "no engine huge" in finding.detail


def test_an_empty_conditions_folder_is_no_fault(settings: Settings) -> None:
    (settings.conditions / "gate.yaml").unlink()

    finding = only(list(diagnosis.conditions(settings)))

    assert finding.state is State.MISSING
    assert not finding.stops_serving


def test_a_database_that_is_not_there_is_not_made(settings: Settings) -> None:
    finding = only(list(diagnosis.database(settings)))

    assert finding.state is State.OK
    assert "will be made" in finding.detail
    assert not settings.database.exists()


def test_a_database_that_is_there_is_opened(settings: Settings) -> None:
    with Store(settings.database, max_age_s=1e9, max_bytes=10**9, on_logged=lambda *_: None):
        finding = only(list(diagnosis.database(settings)))

    assert finding.state is State.OK
    assert "0 tenants" in finding.detail


def test_a_file_that_is_no_database_is_wrong(settings: Settings) -> None:
    settings.database.write_text("this is a text, and no database at all" * 100)

    finding = only(list(diagnosis.database(settings)))

    assert finding.stops_serving
    assert "not a database" in finding.detail
    assert "sets it aside" in finding.advice


def test_a_database_in_a_folder_that_does_not_exist_is_wrong(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"database": settings.database.parent / "no" / "d.db"})

    finding = only(list(diagnosis.database(elsewhere)))

    assert finding.stops_serving
    assert "DELEN_DATABASE" in finding.advice


def test_each_meter_that_works_tells_what_it_reads_now(settings: Settings, tmp_path: Path) -> None:
    write(tmp_path, ORIN_NANO_RAILS)

    findings = {f.subject: f for f in diagnosis.meters(settings, sysfs=tmp_path)}

    assert findings["meter modelled"].state is State.OK
    assert findings["meter ina3221"].state is State.OK
    assert findings["meter ina3221"].detail == "4.67 W (VDD_IN)"


def test_a_meter_that_does_not_work_says_why(settings: Settings, tmp_path: Path) -> None:
    findings = {f.subject: f for f in diagnosis.meters(settings, sysfs=tmp_path)}

    assert findings["meter ina3221"].state is State.MISSING
    assert findings["meter rapl"].state is State.MISSING
    assert "sysfs" in findings["meter rapl"].detail


def test_a_missing_mosquitto_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)

    finding = only(list(diagnosis.mosquitto()))

    assert finding.state is State.MISSING
    assert "apt-get install mosquitto" in finding.advice
    assert not finding.stops_serving


def test_an_optional_library_that_is_half_installed_is_missing_and_not_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise AttributeError('no such type: bool')")
    monkeypatch.syspath_prepend(tmp_path)

    finding = only(list(diagnosis.tensorrt()))

    assert replace(finding, detail="") == Finding(
        subject="tensorrt", state=State.MISSING, detail=""
    )
    assert "no such type: bool" in finding.detail
