"""Who may connect, and what the broker lets them say and hear: with a real Mosquitto."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from appliance import passwords
from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.errors import BrokerError
from appliance.session import Session
from tests.appliances import Watch, address
from tests.conftest import StartBroker
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
USERS = {"appliance": "a", "fleet": "f", "gate": "g", "door": "d"}
OWNER = f"{os.getuid()}:{os.getgid()}"


@pytest.fixture
def guarded(start_broker: StartBroker) -> Mosquitto:
    """A broker with the ACL that is shipped."""
    return start_broker(users=USERS, acl=(DEPLOY / "mosquitto" / "acl").read_text())


def client(broker: Mosquitto, user: str, password: str | None = None) -> Session:
    return Session(address(broker, username=user, password=password or USERS[user]))


def hears(broker: Mosquitto, listener: str, speaker: str, topic: str) -> bool:
    """Whether what one user publishes on a topic reaches another who subscribed to all topics."""
    with client(broker, listener) as ears, client(broker, speaker) as mouth:
        # What is surely heard comes after it, so that silence needs no waiting.
        watch = Watch(ears, "delen/v1/#")
        with suppress(BrokerError):  # the broker says so where it takes none from this one
            mouth.publish(topic, b"said")
        with client(broker, "appliance") as appliance:
            appliance.publish(f"delen/v1/{listener}/telemetry/end", b"end")
        return watch.next()[1] == b"said"


ALLOWED = [
    ("gate", "appliance", "delen/v1/gate/request"),
    ("gate", "appliance", "delen/v1/gate/request/north"),
    ("appliance", "gate", "delen/v1/gate/result/north"),
    ("appliance", "gate", "delen/v1/gate/policy/state/box"),
    ("appliance", "gate", "delen/v1/gate/telemetry/box"),
    ("fleet", "appliance", "delen/v1/gate/policy/set"),
    ("fleet", "appliance", "delen/v1/appliances/box/command"),
    ("appliance", "fleet", "delen/v1/gate/policy/state/box"),
    ("appliance", "fleet", "delen/v1/appliances/box/status"),
    ("appliance", "fleet", "delen/v1/appliances/box/telemetry"),
]

FORBIDDEN = [
    ("gate", "appliance", "delen/v1/door/request"),
    ("gate", "appliance", "delen/v1/gate/policy/set"),
    ("gate", "appliance", "delen/v1/appliances/box/command"),
    ("gate", "fleet", "delen/v1/appliances/box/status"),
    ("gate", "fleet", "delen/v1/gate/policy/state/box"),
    ("appliance", "gate", "delen/v1/door/result"),
    ("appliance", "gate", "delen/v1/door/policy/state/box"),
    ("appliance", "gate", "delen/v1/appliances/box/telemetry"),
    ("appliance", "fleet", "delen/v1/gate/result"),
    ("gate", "fleet", "delen/v1/gate/request"),
    ("door", "gate", "delen/v1/gate/result"),
    ("door", "gate", "delen/v1/gate/request"),
    ("fleet", "gate", "delen/v1/gate/result"),
    ("fleet", "appliance", "delen/v1/gate/request"),
]


@pytest.mark.parametrize(("speaker", "listener", "topic"), ALLOWED)
def test_what_each_has_to_say_is_heard(
    guarded: Mosquitto, speaker: str, listener: str, topic: str
) -> None:
    assert hears(guarded, listener, speaker, topic)


@pytest.mark.parametrize(("speaker", "listener", "topic"), FORBIDDEN)
def test_what_nobody_should_say_or_hear_is_not(
    guarded: Mosquitto, speaker: str, listener: str, topic: str
) -> None:
    assert not hears(guarded, listener, speaker, topic)


def reload(broker: Mosquitto) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGHUP)


def can_connect(broker: Mosquitto, user: str, password: str) -> bool:
    try:
        with client(broker, user, password):
            return True
    except BrokerError:
        return False


def test_an_added_tenant_connects_and_a_removed_one_does_not_while_others_stay_connected(
    guarded: Mosquitto,
) -> None:
    path = guarded.log.parent / "passwords"

    with client(guarded, "gate") as gate:
        watch = Watch(gate, "delen/v1/gate/result")
        password = passwords.add_tenant(path, "dock")
        reload(guarded)
        wait_until(lambda: can_connect(guarded, "dock", password))
        passwords.remove_tenant(path, "dock")
        reload(guarded)
        wait_until(lambda: not can_connect(guarded, "dock", password))
        with client(guarded, "appliance") as appliance:
            appliance.publish("delen/v1/gate/result", b"still here")

        assert watch.next()[1] == b"still here"
        assert guarded.log.read_text().count("as delen-client") >= 3
    assert passwords.tenants(path) == ["door", "gate"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A password file with nobody but the appliance's own users."""
    file = tmp_path / "passwords"
    file.write_text("appliance:$7$101$x$y\nfleet:$7$101$x$y\n")
    file.chmod(0o600)
    return file


def test_a_password_is_kept_as_a_hash_that_only_its_owner_reads(path: Path) -> None:
    password = passwords.add_tenant(path, "gate")

    assert password not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_many_tenants_added_at_a_time_are_all_there(path: Path) -> None:
    names = [f"tenant-{number:02}" for number in range(16)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: passwords.add_tenant(path, name), names))

    assert passwords.tenants(path) == names


@pytest.mark.parametrize("name", ["appliance", "fleet", "appliances", "a:b", "a/b", "a+", "#", ""])
def test_a_name_that_no_tenant_can_have_is_refused(path: Path, name: str) -> None:
    with pytest.raises(BrokerError, match="can be no tenant"):
        passwords.add_tenant(path, name)

    assert passwords.tenants(path) == []


def test_a_tenant_is_added_once(path: Path) -> None:
    passwords.add_tenant(path, "gate")

    with pytest.raises(BrokerError, match="is a tenant already"):
        passwords.add_tenant(path, "gate")


@pytest.mark.parametrize("name", ["gate", "fleet"])
def test_who_is_no_tenant_cannot_be_removed(path: Path, name: str) -> None:
    with pytest.raises(BrokerError, match=f"no tenant {name}"):
        passwords.remove_tenant(path, name)


def test_a_missing_password_file_comes_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="deploy/make-secrets"):
        passwords.add_tenant(tmp_path / "passwords", "gate")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    make_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


def make_secrets(folder: Path) -> None:
    subprocess.run(
        [DEPLOY / "make-secrets", folder, "gate", "door"],
        check=True,
        capture_output=True,
        env={**os.environ, "BROKER_USER": OWNER, "APPLIANCE_USER": OWNER},
    )


@pytest.fixture
def deployed(secrets: Path, tmp_path: Path) -> Iterator[int]:
    """The port of a broker with the configuration that is shipped."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    for shipped, here in (
        ("listener 8883", f"user {os.environ.get('USER', 'root')}\nlistener {port} 127.0.0.1"),
        ("/etc/delen/broker", str(secrets / "broker")),
        ("/etc/delen/mosquitto", str(DEPLOY / "mosquitto")),
        ("/var/lib/mosquitto", str(tmp_path)),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (tmp_path / "mosquitto.conf").write_text(text)
    executable = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    assert executable is not None
    with ExitStack() as stack:
        process = subprocess.Popen(
            [executable, "-c", tmp_path / "mosquitto.conf"], stdout=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_until(lambda: answers(port))
        yield port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_with_what_make_secrets_made_a_tenant_connects_over_tls(
    secrets: Path, deployed: int
) -> None:
    handed_out = secrets / "clients"
    password = (handed_out / "gate.password").read_text().strip()

    def broker(word: str) -> BrokerAddress:
        return BrokerAddress(
            host="localhost",
            port=deployed,
            username="gate",
            password=word,
            tls_ca=handed_out / "ca.crt",
        )

    with Session(broker(password)) as gate:
        gate.publish("delen/v1/gate/request", b"")
    with pytest.raises(BrokerError, match="refuses the connection"), Session(broker("guessed")):
        pass


def test_made_again_the_secrets_stay_as_they_are(secrets: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}

    before = contents()

    make_secrets(secrets)

    assert contents() == before


def test_secrets_are_for_their_owners_alone(secrets: Path) -> None:
    for path in secrets.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
