"""The images and the compose files, run for real."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest

from appliance.errors import BrokerError
from appliance.messages import POLICY_STATE, Reply
from appliance.session import Session
from tests.container.composition import WAIT_S, Composition
from tests.container.conftest import APPLIANCE, BASE, ROOT
from tests.container.engine import PIP_CONFIGURATION, Engine, compose_command
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.container,
    # paho leaves a socket open whose TLS handshake fails, as while a broker starts.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LARGEST_IMAGE_MB = 400
SLOWEST_START_S = 5.0
AUTOSAVE_S = 5.0
"""As in deploy/mosquitto/mosquitto.conf."""

FRAMES = sorted((ROOT / "engines/digits/frames/7").glob("*.jpg"))
POLICY = "tenant: gate\nversion: {version}\nengine: digits\nqueue: {{limit: 1000}}\n"


def push(composition: Composition, version: int) -> None:
    """Pushes the gate's policy as the fleet manager, and waits until it is in force."""
    states: SimpleQueue[bytes] = SimpleQueue()
    with composition.client("fleet") as fleet:
        topic = fleet.topics.policy_state("gate", "+")
        fleet.watch(topic, lambda _, payload, __: states.put(payload))
        policy = POLICY.format(version=version)
        fleet.publish(fleet.topics.policy_set("gate"), policy.encode())
        while POLICY_STATE.validate_json(states.get(timeout=WAIT_S)).version != version:
            pass


def answers(replies: list[Future[Reply]]) -> list[Reply]:
    return [reply.result(WAIT_S) for reply in replies]


def logged(composition: Composition, folder: Path) -> int:
    """How many requests of the gate the appliance has in its log."""
    container = composition.container("appliance")
    composition.engine.docker("cp", f"{container}:/var/lib/delen/.", str(folder))
    with closing(sqlite3.connect(folder / "delen.db")) as database:
        count: int = database.execute(
            "SELECT count(*) FROM inferences WHERE tenant = 'gate'"
        ).fetchone()[0]
    return count


def test_the_image_is_small(images: Engine) -> None:
    bytes_of = {
        image: json.loads(images.docker("inspect", image))[0]["Size"] for image in (APPLIANCE, BASE)
    }

    assert (bytes_of[APPLIANCE] - bytes_of[BASE]) / 1e6 < LARGEST_IMAGE_MB


def test_the_image_holds_no_build_tools(images: Engine) -> None:
    look = "for tool in gcc g++ make pip pip3 git; do command -v $tool; done; true"

    found = images.docker("run", "--rm", "--entrypoint", "sh", APPLIANCE, "-c", look)

    assert found == ""


def test_nothing_of_the_builds_secrets_stays_in_the_image(images: Engine) -> None:
    look = "ls -d /run/secrets/* /etc/pip.conf ~/.config/pip /src; env | grep -i -e pip_ -e cert"

    found = images.try_("run", "--rm", "--entrypoint", "sh", APPLIANCE, "-c", look).stdout

    assert found.strip() == ""
    history = images.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", APPLIANCE)
    for line in PIP_CONFIGURATION.read_text().split() if PIP_CONFIGURATION.is_file() else []:
        assert "/" not in line or line not in history


def test_the_compose_file_for_a_jetson_is_valid(images: Engine) -> None:
    done = subprocess.run(
        [*compose_command(), "-f", ROOT / "compose.yaml", "config", "--quiet"],
        check=False,
        env=images.environment(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def test_the_dashboard_shows_the_appliance_to_who_has_its_password(
    composition: Composition,
) -> None:
    url = f"http://{composition.compose('port', 'dashboard', '8088')}"
    password = composition.folder / "secrets" / "clients" / "dashboard.login"

    with httpx.Client(base_url=url, trust_env=False) as visitor:
        wait_until(lambda: _answers(visitor, "/healthz"), patience_s=WAIT_S)
        assert visitor.get("/").headers["location"] == "/login"
        visitor.post("/login", data={"password": password.read_text().strip()})

        wait_until(lambda: "1 online" in visitor.get("/").text, patience_s=WAIT_S)


def _answers(visitor: httpx.Client, path: str) -> bool:
    try:
        return visitor.get(path).status_code == 200
    except httpx.HTTPError:
        return False


def test_it_runs_as_nobody_in_particular_on_a_read_only_root(composition: Composition) -> None:
    look = "id -u; touch /opt/delen/x 2>&1 | grep -o 'Read-only file system'"

    found = composition.compose("exec", "-T", "appliance", "sh", "-c", look)

    assert found.split("\n") == ["10001", "Read-only file system"]


def test_it_is_online_soon_after_its_start(composition: Composition) -> None:
    composition.stop("appliance")
    composition.start("appliance")
    composition.wait_online()

    assert composition.running_s() < SLOWEST_START_S


def test_a_tenant_is_answered_over_tls_by_the_policy_that_the_fleet_manager_pushed(
    composition: Composition,
) -> None:
    push(composition, version=1_000)

    with composition.client("gate") as gate:
        replies = answers([gate.submit("gate", frame.read_bytes()) for frame in FRAMES[:5]])

    assert [reply.status for reply in replies] == ["ok"] * 5
    assert {reply.policy_version for reply in replies} == {1_000}


def test_the_fleet_manager_reads_telemetry(composition: Composition) -> None:
    told: SimpleQueue[bytes] = SimpleQueue()

    with composition.client("fleet") as fleet:
        topic = fleet.topics.appliance_telemetry("delen")
        fleet.watch(topic, lambda _, payload, __: told.put(payload))
        telemetry = json.loads(told.get(timeout=WAIT_S))

    assert telemetry["backends"] == {"digits": "onnx"}
    assert telemetry["log_failure"] is None


def test_a_tenant_cannot_speak_or_hear_as_another(composition: Composition) -> None:
    with composition.client("meter") as meter, pytest.raises(BrokerError, match="broker refuses"):
        meter.infer("gate", FRAMES[0].read_bytes(), timeout_s=2.0)


def test_a_killed_appliance_loses_no_request(composition: Composition, tmp_path: Path) -> None:
    push(composition, version=1_001)
    before = logged(composition, tmp_path)

    with composition.client("gate") as gate:
        replies = [gate.submit("gate", frame.read_bytes()) for frame in FRAMES]
        replies[0].result(WAIT_S)
        composition.kill("appliance")
        composition.start("appliance")
        statuses = [reply.status for reply in answers(replies)]

    assert statuses == ["ok"] * len(FRAMES)
    composition.wait_online()
    assert logged(composition, tmp_path) - before == len(FRAMES)


def test_a_killed_broker_loses_nothing_that_it_had_saved(composition: Composition) -> None:
    push(composition, version=1_002)
    composition.stop("appliance")
    with composition.client("gate") as gate:
        topic = gate.topics.request("gate", "later")
        for frame in FRAMES[:5]:
            gate.publish(topic, frame.read_bytes())
    time.sleep(AUTOSAVE_S + 2)

    composition.kill("broker")
    composition.start("broker")

    replies: SimpleQueue[bytes] = SimpleQueue()
    with connected_as(composition, "gate") as gate:
        gate.watch(gate.topics.result("gate", "later"), lambda _, payload, __: replies.put(payload))
        composition.start("appliance")
        found = [json.loads(replies.get(timeout=WAIT_S)) for _ in range(5)]
    assert [reply["status"] for reply in found] == ["ok"] * 5
    composition.wait_online()


def test_a_tenant_is_added_and_removed_while_the_others_go_on(composition: Composition) -> None:
    with composition.client("gate") as gate:
        password = composition.compose("run", "--rm", "tenant", "add", "door").splitlines()[-1]
        with connected_as(composition, "door", password) as door:
            door.publish(door.topics.request("door"), b"")
        composition.compose("run", "--rm", "tenant", "remove", "door")
        wait_until_refused(composition, "door", password)

        reply = gate.infer("gate", FRAMES[0].read_bytes(), timeout_s=WAIT_S)

    assert reply.status == "ok"


def connected_as(composition: Composition, user: str, password: str | None = None) -> Session:
    """A client, once the broker is there and lets it in."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            with composition.client(user, password):
                return composition.client(user, password)
        except BrokerError:
            assert time.monotonic() < deadline_s, f"{user} is never let in"


def wait_until_refused(composition: Composition, user: str, password: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            with composition.client(user, password):
                assert time.monotonic() < deadline_s, f"{user} is still let in"
        except BrokerError:
            return


def test_where_the_broker_is_away_it_goes_on_trying_and_health_says_so(
    composition: Composition,
) -> None:
    composition.stop("appliance")
    composition.stop("broker")

    composition.start("appliance")

    deadline_s = time.monotonic() + WAIT_S
    while "cannot be reached" not in (said := composition.health()):
        assert time.monotonic() < deadline_s, said
    assert said.startswith("the broker at broker:8883 cannot be reached (")
    composition.start("broker")
    composition.wait_online()


def test_sigterm_ends_it_well_and_says_so(composition: Composition) -> None:
    statuses: SimpleQueue[bytes] = SimpleQueue()
    with composition.client("fleet") as fleet:
        topic = fleet.topics.appliance_status("delen")
        fleet.watch(topic, lambda _, payload, __: statuses.put(payload))
        assert statuses.get(timeout=WAIT_S) == b"online"

        code = composition.stop("appliance")

        assert statuses.get(timeout=WAIT_S) == b"stopped"
    assert code == 0
    composition.start("appliance")
    composition.wait_online()


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (["--tmpfs", "/var/lib/delen:size=64k,uid=10001"], "disk is full"),
        (["--tmpfs", "/var/lib/delen:ro,uid=10001"], "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_data_volume_that_cannot_be_written_is_said_in_a_line(
    images: Engine, volume: list[str], reason: str
) -> None:
    done = images.try_("run", "--rm", *volume, APPLIANCE, "serve")

    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert reason in line
    assert "Check that it and its folder may be written and that the disk is not full." in line


def test_a_data_volume_that_fills_up_stops_the_log_but_not_the_answers(
    composition: Composition,
) -> None:
    with (
        composition.twin_with_data_in("/var/lib/delen:size=512k,uid=10001") as twin,
        composition.client("gate") as gate,
    ):
        push(composition, version=1_003)
        deadline_s = time.monotonic() + WAIT_S
        said = ""
        while "The log cannot be written" not in said:
            assert time.monotonic() < deadline_s, said
            # Few, since it says so within a second only, and answers 64 that are not logged.
            assert are_answered(gate, FRAMES[:10])
            said = composition.engine.try_("exec", twin, "delen", "health").stdout

        assert are_answered(gate, FRAMES[:5])


def are_answered(gate: Session, frames: list[Path]) -> bool:
    replies = [gate.submit("gate", frame.read_bytes()) for frame in frames]
    return {reply.status for reply in answers(replies)} == {"ok"}
