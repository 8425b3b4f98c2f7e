"""`delen send`: files out as frames, replies back as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from appliance.broker import Mosquitto
from appliance.cli import send
from appliance.settings import Settings
from tests.appliances import client_of, push, serving, settings_for
from tests.engines import tiny_engine

POLICY = """
tenant: gate
version: 1
engine: tiny
exit_when: exit >= 0
"""


@pytest.fixture
def settings(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Of a running appliance that serves the tenant `gate`, and of this process."""
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)
    _set_environment(settings, monkeypatch)
    with serving(settings):
        with client_of(settings) as client:
            push(client, POLICY)
        yield settings


@pytest.fixture
def nobody_serves(broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_environment(settings_for(broker, tmp_path), monkeypatch)


def _set_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mqtt_host", "mqtt_port", "topic_prefix"):
        monkeypatch.setenv(f"DELEN_{name.upper()}", str(getattr(settings, name)))


def delen_send(*arguments: object) -> Result:
    app = typer.Typer()
    send.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def frame(path: Path, brightness: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), brightness).save(path)
    return path


@pytest.mark.usefixtures("settings")
def test_a_file_is_answered_in_a_line_and_summed_up_on_standard_error(tmp_path: Path) -> None:
    path = frame(tmp_path / "bright.png")

    outcome = delen_send("gate", path)

    assert outcome.exit_code == 0
    assert outcome.stdout.startswith(f"{path}: bright (")
    assert "at exit 0" in outcome.stdout
    assert "stopped by condition" in outcome.stdout
    assert "1 sent, 1 answered; response time p50" in outcome.stderr


@pytest.mark.usefixtures("settings")
def test_a_folder_is_sent_with_what_lies_in_it_at_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    inside = {frame(folder / name) for name in ("1.png", "deep/2.jpg", "deep/er/3.JPEG")}
    (folder / "README.md").write_text("no frame")

    outcome = delen_send("gate", folder)

    answered = {Path(line.split(":")[0]) for line in outcome.stdout.splitlines()}
    assert outcome.exit_code == 0
    assert answered == inside


@pytest.mark.usefixtures("settings")
def test_more_frames_than_may_be_in_flight_are_each_answered_once(tmp_path: Path) -> None:
    path = frame(tmp_path / "bright.png")
    count = 5 * send.IN_FLIGHT

    outcome = delen_send("gate", path, "--repeat", count)

    assert outcome.exit_code == 0
    assert len(outcome.stdout.splitlines()) == count
    assert f"{count} sent, {count} answered" in outcome.stderr


@pytest.mark.usefixtures("settings")
def test_json_is_a_reply_per_line_with_the_files_path(tmp_path: Path) -> None:
    path = frame(tmp_path / "bright.png")

    outcome = delen_send("gate", path, "--json", "--stream", "north")

    reply = json.loads(outcome.stdout)
    assert (reply["path"], reply["status"], reply["stream"]) == (str(path), "ok", "north")
    assert reply["label"] == "bright"


@pytest.mark.usefixtures("settings")
def test_a_rejection_is_printed_with_its_code_and_reason_and_exits_1(tmp_path: Path) -> None:
    good = frame(tmp_path / "bright.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")

    outcome = delen_send("gate", good, bad)

    lines = sorted(outcome.stdout.splitlines())
    assert outcome.exit_code == 1
    assert lines[0].startswith(f"{bad}: rejected, 415 unknown type: ")
    assert lines[1].startswith(f"{good}: bright")
    assert "2 sent, 1 answered, 1 rejected" in outcome.stderr


@pytest.mark.usefixtures("settings")
def test_a_content_type_that_the_bytes_contradict_is_rejected(tmp_path: Path) -> None:
    path = frame(tmp_path / "bright.png")

    outcome = delen_send("gate", path, "--content-type", "image/jpeg", "--json")

    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout)["code"] == 400


@pytest.mark.usefixtures("nobody_serves")
def test_where_nobody_serves_each_frame_is_given_up_in_time(tmp_path: Path) -> None:
    first, second = frame(tmp_path / "1.png"), frame(tmp_path / "2.png")

    outcome = delen_send("gate", first, second, "--timeout", 0.1)

    assert outcome.exit_code == 1
    assert outcome.stdout.splitlines() == [f"{p}: no reply in time" for p in (first, second)]
    assert "2 sent, 0 answered, 2 without a reply" in outcome.stderr
    assert "is an appliance online" in outcome.stderr


@pytest.mark.usefixtures("nobody_serves")
def test_an_unanswered_frame_is_a_line_of_json_too(tmp_path: Path) -> None:
    path = frame(tmp_path / "1.png")

    outcome = delen_send("gate", path, "--timeout", 0.1, "--json")

    assert json.loads(outcome.stdout) == {"path": str(path), "status": "unanswered"}


def test_a_folder_without_frames_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no frame")

    outcome = delen_send("gate", tmp_path)

    assert outcome.exit_code == 1
    assert "no frames there" in str(outcome.exception)


@pytest.mark.parametrize("arguments", [("no/tenant",), ("gate", "--stream", "a+b")])
def test_a_name_that_cannot_stand_in_a_topic_is_wrong_usage(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = delen_send(*arguments, frame(tmp_path / "1.png"))

    assert outcome.exit_code == 2
    assert "cannot stand in a topic" in outcome.stderr
