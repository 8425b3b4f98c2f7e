"""Who may connect: the tenants file, passwords and certificates, with a real Mosquitto."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from appliance.acl import acl, users
from appliance.cli.main import command_line
from appliance.client import Client
from appliance.connection import BrokerAddress
from appliance.enrolment import Enrolment
from appliance.errors import BrokerError, InvalidDocument
from appliance.passwords import read_hashes
from appliance.roster import Roster, Sensor, Tenant, Viewer, parse_roster, roster_of
from appliance.session import Session
from appliance.settings import read_settings
from appliance.topics import RESERVED_NAMES, Topics, tenant_fault
from tests.appliances import WAIT_S, Watch, serving
from tests.engines import tiny_engine
from tests.gate import npy
from tests.waiting import wait_until

# What a tenant may be called and a line of the broker's files holds.
names = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/+#:"), min_size=1, max_size=20
).filter(lambda name: tenant_fault(name) is None)

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
OWNER = f"{os.getuid()}:{os.getgid()}"
TOPICS = Topics("delen/v1")


def enrolment(path: Path) -> Enrolment:
    return Enrolment(path, TOPICS)


def tenants(path: Path) -> list[str]:
    return sorted(enrolment(path).roster().tenants)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A password file with nobody but the appliance's own users."""
    file = tmp_path / "passwords"
    file.write_text("appliance:$7$101$x$y\nfleet:$7$101$x$y\n")
    file.chmod(0o600)
    return file


def test_a_password_is_kept_as_a_hash_that_only_its_owner_reads(path: Path) -> None:
    password = enrolment(path).add("gate", Tenant()).passwords["gate"]

    assert password not in path.read_text()
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_many_tenants_added_at_a_time_are_all_there(path: Path) -> None:
    names = [f"tenant-{number:02}" for number in range(16)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: enrolment(path).add(name, Tenant()), names))

    assert tenants(path) == names
    assert set(read_hashes(path)) == {"appliance", "fleet", *names}


REFUSED = [
    *RESERVED_NAMES, "a:b", "a/b", "a+", "#", "", "$SYS", "a\nb", "a\x00", "a\u2028fleet",
    "a\u200b", " gate", "gate\u00a0", "Tu\u0308r", "x" * 129,
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_no_tenant_can_have_is_refused(path: Path, name: str) -> None:
    with pytest.raises(BrokerError, match="can be no tenant"):
        enrolment(path).add(name, Tenant())

    assert tenants(path) == []
    assert set(read_hashes(path)) == {"appliance", "fleet"}


@pytest.mark.parametrize("name", ["a:b", "a/b", "+", "", "$SYS", "a\nb", " hall", "x" * 129])
def test_a_name_that_no_user_can_have_is_refused(path: Path, name: str) -> None:
    with pytest.raises(BrokerError, match="can be no name"):
        enrolment(path).add("gate", Tenant.model_construct(applications=(name,)))


def test_a_tenant_is_added_once(path: Path) -> None:
    enrolment(path).add("gate", Tenant())

    with pytest.raises(BrokerError, match="is there already"):
        enrolment(path).add("gate", Tenant())


def test_a_tenant_gets_more_users_and_its_password_stays(path: Path) -> None:
    enrolment(path).add("gate", Tenant())
    before = read_hashes(path)

    change = enrolment(path).add("gate", Tenant(sensors={"north": Sensor(stream="n")}))

    assert list(change.passwords) == ["gate/north"]
    assert read_hashes(path).items() > before.items()
    with pytest.raises(BrokerError, match="gate/north is there already"):
        enrolment(path).add("gate", Tenant(applications=("north",)))


def test_a_removed_tenant_takes_its_users_along_and_a_removed_user_nobody(path: Path) -> None:
    enrolment(path).add("gate", Tenant(sensors={"north": Sensor()}, applications=("hall",)))
    enrolment(path).add("door", Tenant())

    first = enrolment(path).remove("gate/hall")
    second = enrolment(path).remove("gate")

    assert first.removed == ("gate/hall",)
    assert second.removed == ("gate", "gate/north")
    assert tenants(path) == ["door"]
    assert "gate" not in (path.parent / "acl").read_text()


@pytest.mark.parametrize("name", ["gate", "fleet", "door/north"])
def test_who_is_no_tenant_cannot_be_removed(path: Path, name: str) -> None:
    enrolment(path).add("door", Tenant())

    with pytest.raises(BrokerError, match=f"no tenant {name}"):
        enrolment(path).remove(name)


def test_a_user_can_have_a_new_password(path: Path) -> None:
    enrolment(path).add("gate", Tenant())
    before = read_hashes(path)

    change = enrolment(path).renew("gate")

    assert list(change.passwords) == ["gate"]
    after = read_hashes(path)
    assert after["gate"] != before["gate"]
    assert after["fleet"] == before["fleet"]


ROSTER = b"""# our own words
tenants:
  gate: {sensors: {north: {stream: n}, yard: }, applications: [hall], fleet_managers: [ops]}
  door: {user: false, sensors: {only: }}
fleet_managers: [night]
appliances: [box]
viewers: {wall: , desk: {results: [gate]}}
"""


def test_a_tenants_file_is_brought_about_once_and_passwords_stay(path: Path) -> None:
    first = enrolment(path).replace(ROSTER)
    written = {file: file.stat().st_ino for file in path.parent.iterdir()}

    second = enrolment(path).apply()

    assert set(first.passwords) == {
        "gate", "gate/north", "gate/yard", "gate/hall", "gate/ops", "door/only", "fleet/night",
        "appliance/box", "viewer/wall", "viewer/desk",
    }  # fmt: skip
    assert not second.passwords
    assert not second.removed
    assert {file: file.stat().st_ino for file in path.parent.iterdir()} == written
    assert (path.parent / "tenants.yaml").read_bytes() == ROSTER


def test_who_is_not_in_the_tenants_file_is_out_when_it_is_applied(path: Path) -> None:
    enrolment(path).replace(ROSTER)
    before = read_hashes(path)

    change = enrolment(path).replace(b"tenants: {gate: {applications: [hall]}}")

    assert set(change.removed) == set(before) - {"appliance", "fleet", "gate", "gate/hall"}
    assert read_hashes(path) == {name: before[name] for name in read_hashes(path)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tenants: {7: }", "quotes"),
        ("tenants: {fleet: }", "reserved"),
        ('tenants: {"a/b": }', "can be no tenant"),
        ("tenants: {a: {sensors: {b: }, applications: [b]}}", "two roles"),
        ("tenants: {a: {applications: [b, b]}}", "twice"),
        ("tenants: {a: {sensor: {}}}", "no field `sensor`"),
        ("viewers: {wall: {results: [gate]}}", "no tenant"),
        ("{dashboard: true, tenants: {dashboard: }}", "a user already"),
        ("{home_assistant: ha, tenants: {home-assistant: }}", "a user already"),
        ("tenants: {a: , a: }", "twice"),
        ("- a", "dictionary"),
        ("tenants: &a {b: *a}", "anchors"),
    ],
)
def test_a_wrong_tenants_file_is_refused_at_its_line_and_nothing_changes(
    path: Path, text: str, said: str
) -> None:
    enrolment(path).replace(ROSTER)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}

    with pytest.raises(InvalidDocument, match=f"line 2: .*{said}"):
        enrolment(path).replace(f"\n{text}".encode())

    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@given(st.dictionaries(names, st.lists(names, unique=True, max_size=3), max_size=4))
def test_a_roster_written_is_the_roster_read(members: dict[str, list[str]]) -> None:
    roster = roster_of({"tenants": {name: {"applications": of} for name, of in members.items()}})

    assert parse_roster(roster.text()) == roster


def test_an_installation_from_before_the_tenants_file_keeps_its_tenants(path: Path) -> None:
    path.write_text(path.read_text() + "gate:$7$101$x$y\n")

    enrolment(path).add("door", Tenant())

    assert tenants(path) == ["door", "gate"]
    assert read_hashes(path)["gate"] == "$7$101$x$y"


def test_a_missing_password_file_comes_with_what_makes_it(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BrokerError, match="deploy/make-secrets"):
            enrolment(folder / "passwords").add("gate", Tenant())


def test_the_shipped_acl_is_that_of_a_roster_without_tenants() -> None:
    shipped = (DEPLOY / "mosquitto" / "acl").read_text()

    assert shipped == acl(users(Roster(), TOPICS))


def test_the_example_in_the_docs_is_a_tenants_file_with_every_field() -> None:
    text = (ROOT / "docs" / "operator.md").read_text()
    (example,) = re.findall(r"```yaml tenants.yaml\n(.*?)```", text, re.DOTALL)

    parse_roster(example)

    for section in (Roster, Tenant, Sensor, Viewer):
        for field in section.model_fields:
            assert f"{field}:" in example, field


def tenant_command(path: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    environment = {"DELEN_PASSWORDS": str(path)}
    return CliRunner().invoke(command_line(), ["tenant", *arguments], env=environment, input=stdin)


def test_the_command_prints_a_password_alone_or_a_line_a_user(path: Path) -> None:
    alone = tenant_command(path, "add", "gate")
    more = tenant_command(path, "add", "gate", "--sensor", "north=n", "--application", "hall")
    as_json = tenant_command(path, "add", "door", "--fleet-manager", "ops", "--json")
    applied = tenant_command(path, "apply", "-", stdin=b"tenants: {gate: }")
    listed = tenant_command(path, "list", "--users")

    assert len(alone.stdout.split()) == 1
    assert [line.split("\t")[0] for line in more.stdout.splitlines()] == ["gate/north", "gate/hall"]
    assert set(json.loads(as_json.stdout)) == {"door", "door/ops"}
    assert applied.stdout == ""
    assert "gate/hall is out." in applied.stderr
    assert listed.stdout.splitlines()[-1] == "gate\ttenant"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    make_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


def make_secrets(folder: Path) -> None:
    run("make-secrets", folder, "gate", "door")


def run(script: str, *arguments: str | Path) -> str:
    """What a script says, on standard error."""
    done = attempt(script, *arguments)
    done.check_returncode()
    return done.stderr


def attempt(
    script: str, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BROKER_USER": OWNER, "APPLIANCE_USER": OWNER, **variables}
    return subprocess.run(
        [DEPLOY / script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass(frozen=True)
class Deployed:
    """A running broker, and the folder that it was made for."""

    secrets: Path
    port: int
    certificates_port: int
    pid: int

    @property
    def passwords(self) -> Path:
        return self.secrets / "broker" / "passwords"

    def reload(self) -> None:
        """What deploy/mosquitto/run does when a file has changed."""
        os.kill(self.pid, signal.SIGHUP)

    def client(self, user: str, password: str | None = None) -> Session:
        if password is None:
            password = (self.secrets / "clients" / f"{user}.password").read_text().strip()
        return Session(
            BrokerAddress(
                host="localhost",
                port=self.port,
                username=user,
                password=password,
                tls_ca=self.secrets / "clients" / "ca.crt",
            )
        )

    def certified(self, certificate: Path, username: str | None = None) -> Session:
        return Session(
            BrokerAddress(
                host="localhost",
                port=self.certificates_port,
                username=username,
                tls_ca=self.secrets / "clients" / "ca.crt",
                tls_cert=certificate.with_suffix(".crt"),
                tls_key=certificate.with_suffix(".key"),
            )
        )

    def lets_in(self, user: str, password: str) -> bool:
        try:
            with self.client(user, password):
                return True
        except BrokerError:
            return False


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A broker with the configuration that is shipped, and with certificates of some users."""
    tmp_path = tmp_path_factory.mktemp("deployed")
    secrets = tmp_path / "secrets"
    make_secrets(secrets)
    for user in ("gate", "door", "appliance"):
        run("make-certificate", secrets, user)
    port, certificates_port = free_ports(2)
    listener = secrets / "broker" / "listeners" / "certificates.conf"
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    text += listener.read_text()
    listener.unlink()
    for shipped, here in (
        ("listener 8883", f"user {os.environ.get('USER', 'root')}\nlistener {port} 127.0.0.1"),
        ("listener 8884", f"listener {certificates_port} 127.0.0.1"),
        ("/etc/delen/broker", str(secrets / "broker")),
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
        wait_until(lambda: answers(port) and answers(certificates_port))
        yield Deployed(secrets, port, certificates_port, process.pid)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_with_what_make_secrets_made_a_tenant_connects_over_tls(deployed: Deployed) -> None:
    with deployed.client("gate") as gate:
        gate.publish("delen/v1/gate/request", b"")

    with (
        pytest.raises(BrokerError, match="refuses the connection"),
        deployed.client("gate", "guessed"),
    ):
        pass


def test_an_added_tenant_connects_and_a_removed_one_does_not_while_others_stay_connected(
    deployed: Deployed,
) -> None:
    with deployed.client("gate") as gate, deployed.client("fleet") as fleet:
        watch = Watch(gate, "delen/v1/gate/policy/state/#")
        told = Watch(fleet, "delen/v1/#")
        change = enrolment(deployed.passwords).add("dock", Tenant(fleet_managers=("ops",)))
        deployed.reload()
        wait_until(lambda: deployed.lets_in("dock/ops", change.passwords["dock/ops"]))
        with deployed.client("dock", change.passwords["dock"]) as dock:
            dock.publish("delen/v1/dock/request", b"")
        enrolment(deployed.passwords).remove("dock")
        deployed.reload()
        wait_until(lambda: not deployed.lets_in("dock", change.passwords["dock"]))
        secret = (deployed.secrets / "appliance" / "password").read_text().strip()
        with deployed.client("appliance", secret) as appliance:
            appliance.publish("delen/v1/gate/policy/state/box", b"still here")

        assert watch.next()[1] == b"still here"
        assert told.next()[1] == b"still here"


def test_a_certificate_is_who_it_names_whatever_else_its_holder_says(deployed: Deployed) -> None:
    own = deployed.secrets / "clients" / "gate"
    speaker = deployed.secrets / "appliance" / "client"
    with deployed.certified(own, username="door") as gate, deployed.certified(speaker) as appliance:
        watch = Watch(gate, "delen/v1/+/result/#")
        for tenant in ("door", "gate"):
            appliance.publish(f"delen/v1/{tenant}/result", tenant.encode())

        assert watch.next()[1] == b"gate"


def test_appliance_and_tenant_meet_with_certificates_alone(
    deployed: Deployed, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    (tmp_path / "gate.yaml").write_text("tenant: gate\nversion: 1\nengine: tiny\n")
    own = deployed.secrets / "appliance"
    settings = read_settings(
        appliance_id="box",
        mqtt_host="localhost",
        mqtt_port=deployed.certificates_port,
        mqtt_tls_ca=own / "ca.crt",
        mqtt_tls_cert=own / "client.crt",
        mqtt_tls_key=own / "client.key",
        engines=tmp_path / "engines",
        conditions=tmp_path,
        database=tmp_path / "delen.db",
        meter="modelled",
        threads=1,
    )

    clients = deployed.secrets / "clients"
    with (
        serving(settings),
        Client(
            "localhost",
            tenant="gate",
            port=deployed.certificates_port,
            tls_ca=clients / "ca.crt",
            tls_cert=clients / "gate.crt",
            tls_key=str(clients / "gate.key"),
        ) as gate,
    ):
        reply = gate.infer(npy(), timeout_s=WAIT_S)

    assert reply.status == "ok"


def pub_with(deployed: Deployed, *options: str | Path) -> str:
    """What mosquitto_pub complains of on the port for certificates; empty where it is heard."""
    command: list[str | Path] = ["mosquitto_pub", "-V", "5", "-q", "1", "-h", "localhost"]
    command += ["-p", str(deployed.certificates_port), "-m", "x"]
    command += ["--cafile", deployed.secrets / "clients" / "ca.crt", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    return done.stderr


def test_only_a_certificate_of_the_brokers_own_authority_is_let_in(
    deployed: Deployed, tmp_path: Path
) -> None:
    make_secrets(tmp_path / "others")
    run("make-certificate", tmp_path / "others", "gate")

    def complaint(certificate: Path) -> str:
        return pub_with(
            deployed,
            *("-t", "delen/v1/gate/request"),
            *("--cert", certificate.with_suffix(".crt")),
            *("--key", certificate.with_suffix(".key")),
        )

    password = (deployed.secrets / "clients" / "gate.password").read_text().strip()

    assert complaint(deployed.secrets / "clients" / "gate") == ""
    assert complaint(tmp_path / "others" / "clients" / "gate") != ""
    assert complaint(deployed.secrets / "broker" / "server") != ""
    assert pub_with(deployed, "-t", "delen/v1/gate/request", "-u", "gate", "-P", password) != ""


def test_the_certificate_of_a_removed_tenant_is_good_for_nothing(deployed: Deployed) -> None:
    with deployed.certified(deployed.secrets / "clients" / "door") as door:
        door.publish("delen/v1/door/request", b"")
    assert door_is_heard(deployed)

    enrolment(deployed.passwords).remove("door")
    deployed.reload()

    wait_until(lambda: not door_is_heard(deployed))


def door_is_heard(deployed: Deployed) -> bool:
    door = deployed.secrets / "clients" / "door"
    files = ("--cert", door.with_suffix(".crt"), "--key", door.with_suffix(".key"))
    return "Not authorized" not in pub_with(deployed, "-t", "delen/v1/door/request", *files)


def test_a_certificate_is_made_only_for_a_user_and_stays_until_it_ends(secrets: Path) -> None:
    run("make-certificate", secrets, "gate")
    before = (secrets / "clients" / "gate.crt").read_bytes()

    run("make-certificate", secrets, "gate", "appliance")

    assert (secrets / "clients" / "gate.crt").read_bytes() == before
    assert (secrets / "appliance" / "client.key").stat().st_mode & 0o077 == 0
    with pytest.raises(subprocess.CalledProcessError):
        run("make-certificate", secrets, "nobody")


def test_what_make_secrets_made_is_what_the_tenants_file_says(secrets: Path) -> None:
    path = secrets / "broker" / "passwords"
    before = {file: file.read_bytes() for file in path.parent.glob("*") if file.is_file()}

    change = enrolment(path).apply()

    assert not change.passwords
    assert not change.removed
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    "name", [*RESERVED_NAMES, "a/b", "a:b", "a+", "#", "", "Tür", "a b", "a\nb"]
)
def test_make_secrets_takes_no_first_tenant_of_an_odd_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run("make-secrets", tmp_path / "new", "gate", name)

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("names", ["broker 10.1.2.300", "broker,edge.local"])
def test_make_secrets_says_which_names_no_certificate_can_have(tmp_path: Path, names: str) -> None:
    done = attempt("make-secrets", tmp_path / "new", "gate", BROKER_NAMES=names)

    assert done.returncode == 1
    assert f"The broker gets no certificate for the names '{names}'" in done.stderr
    assert attempt("make-secrets", tmp_path / "new", "gate").returncode == 0


@pytest.mark.parametrize(
    ("script", "user"), [("make-secrets", "gate"), ("make-certificate", "gate")]
)
def test_without_the_authoritys_key_the_scripts_say_so(
    secrets: Path, script: str, user: str
) -> None:
    (secrets / "ca" / "ca.key").unlink()
    (secrets / "broker" / "server.crt").unlink()

    done = attempt(script, secrets, user)

    assert done.returncode == 1
    assert done.stderr.startswith(f"There is no {secrets}/ca/ca.key")


def test_made_again_the_secrets_stay_as_they_are(secrets: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}

    before = contents()

    make_secrets(secrets)

    assert contents() == before


def test_an_installation_from_before_the_generated_acl_gets_one_for_its_tenants(
    secrets: Path,
) -> None:
    passwords, written = secrets / "broker" / "passwords", secrets / "broker" / "acl"
    written.unlink()
    (secrets / "broker" / "tenants.yaml").unlink()
    hashes = passwords.read_text().splitlines(keepends=True)
    passwords.write_text("".join(one for one in hashes if not one.startswith("dashboard:")))

    make_secrets(secrets)

    assert written.read_text() == acl(
        users(roster_of({"tenants": {"gate": {}, "door": {}}}), TOPICS)
    )
    assert tenants(passwords) == ["door", "gate"]


def test_the_dashboard_of_an_installation_from_before_it_had_a_user_is_told_how_to_get_one(
    secrets: Path,
) -> None:
    (secrets / "dashboard" / "broker.password").unlink()

    said = run("make-secrets", secrets, "gate", "door")

    assert "dashboard: true" in said
    assert "broker.password" in said


def test_compose_has_the_dashboard_connect_as_the_user_that_make_secrets_made(
    deployed: Deployed,
) -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["dashboard"]
    user = service["environment"]["DELEN_MQTT_USERNAME"]
    file = Path(service["environment"]["DELEN_MQTT_PASSWORD_FILE"])
    password = (deployed.secrets / "dashboard" / file.name).read_text().strip()
    own = (deployed.secrets / "appliance" / "password").read_text().strip()

    with deployed.client(user, password) as page, deployed.client("appliance", own) as appliance:
        watch = Watch(page, "delen/v1/gate/result/#")
        appliance.publish("delen/v1/gate/result", b"seven")
        page.publish("delen/v1/gate/policy/set", b"")

        assert watch.next()


def test_secrets_are_for_their_owners_alone(secrets: Path) -> None:
    for path in secrets.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
