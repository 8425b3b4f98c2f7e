"""Whether an appliance is online: what it writes, and what `delen health` makes of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from appliance.broker import Mosquitto
from appliance.cli import health as health_command
from appliance.errors import ServiceError, SettingsError
from appliance.health import STALE_S, Health, HealthFile, as_of, read_health
from appliance.serving import serve
from appliance.settings import Settings
from appliance.topics import Topics
from tests.appliances import client_of, settings_for
from tests.conftest import StartBroker
from tests.waiting import wait_until

ONLINE = Health(well=True, sentence="online", at_s=100.0)


@contextmanager
def appliance(settings: Settings) -> Iterator[None]:
    """`delen serve` in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def sentence(path: Path) -> str:
    return read_health(path, time.monotonic()).sentence


def delen_health(path: Path | None, *options: str) -> Result:
    app = typer.Typer()
    health_command.register(app)
    return CliRunner().invoke(
        app, list(options), env={"DELEN_HEALTH_FILE": None if path is None else str(path)}
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with HealthFile(tmp_path / "health") as file:
        file.write(ONLINE)

        assert read_health(tmp_path / "health", ONLINE.at_s + 1) == ONLINE


def test_who_has_told_nothing_yet_is_starting() -> None:
    assert as_of(None, 0.0).sentence == "the appliance is still starting"
    assert not as_of(None, 0.0).well


@pytest.mark.parametrize("later_s", [STALE_S + 1, -1.0], ids=["too old", "of an earlier boot"])
def test_who_has_not_written_for_long_is_unwell(tmp_path: Path, later_s: float) -> None:
    with HealthFile(tmp_path / "health") as file:
        file.write(ONLINE)

        found = read_health(tmp_path / "health", ONLINE.at_s + later_s)

    assert not found.well
    assert "hangs or has died" in found.sentence


def test_the_file_is_gone_when_the_appliance_is(tmp_path: Path) -> None:
    with HealthFile(tmp_path / "health") as file:
        file.write(ONLINE)

    assert list(tmp_path.iterdir()) == []
    assert "no appliance runs here" in read_health(tmp_path / "health", 0).sentence


def test_what_an_appliance_left_that_was_killed_is_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "health").write_text("left")

    with HealthFile(tmp_path / "health"):
        assert not (tmp_path / "health").exists()


def test_a_file_that_cannot_be_written_is_complained_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), HealthFile(tmp_path / "no" / "health") as file:
        file.write(ONLINE)
        file.write(ONLINE)

    assert len(caplog.messages) == 1
    assert "DELEN_HEALTH_FILE cannot be written" in caplog.text


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "health").write_text("ok")

    with pytest.raises(ServiceError, match="written by no appliance"):
        read_health(tmp_path / "health", 0)


def test_an_older_finding_does_not_take_the_place_of_a_newer(tmp_path: Path) -> None:
    with HealthFile(tmp_path / "health") as file:
        file.write(ONLINE)

        file.write(Health(well=False, sentence="not yet", at_s=ONLINE.at_s - 1))

        assert read_health(tmp_path / "health", ONLINE.at_s) == ONLINE


def test_who_sees_it_online_at_the_broker_finds_it_well(broker: Mosquitto, tmp_path: Path) -> None:
    settings = settings_for(broker, tmp_path, health_file=tmp_path / "health")
    status = Topics(settings.topic_prefix).appliance_status(settings.appliance_id)
    found: list[str] = []

    def received(_topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        if payload == b"online":
            found.append(sentence(tmp_path / "health"))

    with client_of(settings) as client:
        client.watch(status, received)
        with appliance(settings):
            wait_until(lambda: bool(found))

    assert found == ["online"]


def test_an_appliance_that_is_online_says_so(broker: Mosquitto, tmp_path: Path) -> None:
    settings = settings_for(broker, tmp_path, health_file=tmp_path / "health")

    with appliance(settings):
        wait_until(lambda: sentence(tmp_path / "health") == "online")

        outcome = delen_health(tmp_path / "health")

    assert (outcome.exit_code, outcome.stdout) == (0, "online\n")


def test_where_the_broker_is_away_it_goes_on_trying_and_says_so(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker()
    broker.stop()
    settings = settings_for(broker, tmp_path, health_file=tmp_path / "health")

    with appliance(settings):
        wait_until(lambda: "cannot be reached" in sentence(tmp_path / "health"))
        outcome = delen_health(tmp_path / "health")
        broker.start()
        wait_until(lambda: sentence(tmp_path / "health") == "online")

    assert outcome.exit_code == 1
    assert f"127.0.0.1:{broker.port} cannot be reached (" in outcome.stdout
    assert "refused" in outcome.stdout


def test_a_password_that_the_broker_refuses_is_said(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker(users={"box": "its secret"})
    credentials = {"mqtt_username": "box", "mqtt_password": "another"}
    settings = settings_for(broker, tmp_path, health_file=tmp_path / "health", **credentials)

    with appliance(settings):
        wait_until(lambda: "refuses the connection" in sentence(tmp_path / "health"))


def test_without_the_setting_the_command_says_which_to_set() -> None:
    outcome = delen_health(None)

    assert isinstance(outcome.exception, SettingsError)
    assert "DELEN_HEALTH_FILE" in str(outcome.exception)
