"""Passwords and keys appear nowhere: not in the log, in messages, in outputs, nor in errors."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from appliance.acl import acl, users
from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.errors import BrokerError, SettingsError
from appliance.roster import parse_roster
from appliance.session import Session
from appliance.settings import read_settings
from appliance.topics import Topics
from tests.appliances import WAIT_S, Watch, address
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.test_run_command import delen
from tests.waiting import wait_until

TOPICS = Topics("delen/v1")
PASSWORDS = {name: f"{name}-s3cret-Xk9" for name in ("appliance", "fleet", "gate")}
WRONG = "wr0ng-s3cret-Qz7"
TOKEN = "t0ken-s3cret-Jw4"  # noqa: S105 - that is the point
BOX = "box"


def assert_no_secret(text: str, where: str) -> None:
    for secret in (*PASSWORDS.values(), WRONG, TOKEN):
        for form in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
            assert form not in text, where


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    everybody = users(parse_roster("tenants: {gate: }"), TOPICS)
    folder = tmp_path_factory.mktemp("guarded")
    with Mosquitto(folder=folder, users=PASSWORDS, acl=acl(everybody)) as broker:
        yield broker


def environment(broker: Mosquitto, folder: Path) -> dict[str, str]:
    """The settings of an appliance, but for its password, which talks as much as it can."""
    values = {
        "APPLIANCE_ID": BOX,
        "MQTT_HOST": broker.host,
        "MQTT_PORT": str(broker.port),
        "MQTT_USERNAME": "appliance",
        "ENGINES": str(folder / "engines"),
        "CONDITIONS": str(folder),
        "DATABASE": str(folder / "delen.db"),
        "HEALTH_FILE": str(folder / "health"),
        "PASSWORDS": str(broker.log.parent / "passwords"),
        "THREADS": "1",
        "METER": "modelled",
        "TELEMETRY_INTERVAL": "100ms",
        "LOG_LEVEL": "debug",
        "METRICS_TOKEN": TOKEN,
    }
    return {f"DELEN_{name}": value for name, value in values.items()}


@contextmanager
def serving(settings: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`delen serve` in a process of its own, whose log goes to a file."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "serve"],
            env={**os.environ, **settings},
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def test_no_password_is_in_the_log_in_messages_or_in_what_commands_print(
    guarded: Mosquitto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    frame = tmp_path / "frame.npy"
    frame.write_bytes(npy())
    (tmp_path / "password").write_text(f"{PASSWORDS['appliance']}\n")
    settings = environment(guarded, tmp_path)
    settings["DELEN_MQTT_PASSWORD_FILE"] = str(tmp_path / "password")
    said: SimpleQueue[str] = SimpleQueue()

    def heard(topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        said.put(f"{topic} {payload.decode()}")

    with as_user(guarded, "fleet") as fleet, as_user(guarded, "gate") as gate:
        status = Watch(fleet, TOPICS.appliance_status(BOX))
        for client in (fleet, gate):
            client.watch("#", heard)
        with serving(settings, tmp_path / "log"):
            while status.next()[1] != b"online":
                pass
            for policy in (POLICY, POLICY.replace("tiny", "none"), "tenant: [", "x: y"):
                fleet.publish(TOPICS.policy_set("gate"), policy.encode())
            fleet.publish(TOPICS.appliance_command(BOX), b'{"reload": "none"}')
            replies = [gate.submit("gate", sent) for sent in (npy(), b"no frame", b"")]
            assert [reply.result(WAIT_S).status for reply in replies].count("ok") == 1
            telemetry = Watch(fleet, TOPICS.appliance_telemetry(BOX))
            telemetry.next()
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            # A row may be written some time after its reply is published.
            wait_until(lambda: delen(monkeypatch, "log") == 0 and "gate" in capfd.readouterr().out)
            for arguments in (
                ("health", "--json"),
                ("log", "--json"),
                ("policy", "show", "gate", "--json", "--wait", "0.1"),
                ("power", "--ledger", "hour", "--json"),
                ("tenant", "list", "--users", "--json"),
                ("send", "gate", str(frame), "--json", "--timeout", "0"),
            ):
                assert delen(monkeypatch, *arguments) < 2, arguments
                printed = capfd.readouterr()
                assert printed.out + printed.err, arguments
                assert_no_secret(printed.out + printed.err, " ".join(arguments))

    log = (tmp_path / "log").read_text()
    assert "online at" in log
    assert_no_secret(log, "the log")
    messages = "\n".join(said.get() for _ in range(said.qsize()))
    assert "/telemetry" in messages
    assert '"status":"ok"' in messages.replace(" ", "")
    assert_no_secret(messages, "the messages")
    for file in ("health", "delen.db"):
        if (tmp_path / file).exists():
            assert_no_secret((tmp_path / file).read_bytes().decode("latin-1"), file)
    assert_no_secret(guarded.log.read_text(), "the broker's log")


def as_user(broker: Mosquitto, user: str, password: str | None = None) -> Session:
    return Session(address(broker, username=user, password=password or PASSWORDS[user]))


def test_a_refused_password_is_in_no_error(
    guarded: Mosquitto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "engines").mkdir()
    settings = {**environment(guarded, tmp_path), "DELEN_MQTT_PASSWORD": WRONG}
    log = tmp_path / "log"

    with serving(settings, log):
        wait_until(lambda: "refuses the connection" in log.read_text())
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        for arguments in (("doctor", "--json"), ("health",), ("policy", "show", "gate")):
            assert delen(monkeypatch, *arguments) == 1
    with pytest.raises(BrokerError) as error, as_user(guarded, "gate", WRONG):
        pass

    printed = capfd.readouterr()
    assert "refuses the connection" in printed.out + printed.err
    for text in (printed.out + printed.err, str(error.value), log.read_text()):
        assert_no_secret(text, text)


@pytest.mark.parametrize(
    "line",
    [
        f"mqtt_password: [{WRONG}]",
        f"mqtt_password: {{a: {WRONG}}}",
        f"mqtt_pasword: {WRONG}",
        f'mqtt_password: "{WRONG}',
        f"mqtt_password: {WRONG}: {WRONG}",
        f"\tmqtt_password: {WRONG}",
        f"mqtt_password {WRONG}",
        f"mqtt_password: !secret {WRONG}",
        f"mqtt_password: *{WRONG}",
        f"mqtt_password: {WRONG}\nmqtt_port: x",
    ],
)
def test_a_password_in_a_settings_file_with_a_mistake_is_not_repeated(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "delen.yaml").write_text(line)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError) as error:
        read_settings()

    assert_no_secret(str(error.value), line)


def test_a_password_file_that_is_no_text_is_named_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_bytes(WRONG.encode() + b"\xff")
    monkeypatch.setenv("DELEN_MQTT_PASSWORD_FILE", str(file))

    with pytest.raises(SettingsError, match="DELEN_MQTT_PASSWORD_FILE") as error:
        read_settings().password()

    assert_no_secret(str(error.value), "the error")


def test_a_client_key_that_cannot_be_used_is_named_and_not_repeated(tmp_path: Path) -> None:
    for name in ("ca.crt", "own.crt", "own.key"):
        (tmp_path / name).write_text(WRONG)
    ca = tmp_path / "ca.crt"
    broker = BrokerAddress(
        host="h", port=1, password=WRONG, tls_ca=ca, tls_key=tmp_path / "own.key"
    )

    with pytest.raises(BrokerError) as error:
        Session(broker)

    assert_no_secret(str(error.value), "the error")


def test_what_holds_a_password_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELEN_MQTT_PASSWORD", WRONG)
    settings = read_settings()

    for value in (settings, BrokerAddress.of(settings)):
        assert_no_secret(f"{value!r} {value}", type(value).__name__)
