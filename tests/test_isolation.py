"""Who may say and hear what: real C clients at a real Mosquitto with the ACL that is generated."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from typing_extensions import Self

from appliance.acl import acl, users
from appliance.broker import Mosquitto
from appliance.connection import new_client
from appliance.messages import REPLY, Rejection, Result
from appliance.reader import Reader
from appliance.roster import parse_roster
from appliance.service import Service
from appliance.session import Session
from appliance.settings import Settings
from appliance.topics import RESERVED_NAMES, Topics
from tests.appliances import WAIT_S, Watch, address, client_of, push, serving
from tests.gate import POLICY, gate_settings, npy
from tests.waiting import wait_until

PREFIX = "delen/v1"
ROSTER = """
tenants:
  gate:
    sensors: {north: {stream: north}, yard: }
    applications: [hall]
    fleet_managers: [ops]
  door:
  "a  b":
  "北門":
fleet_managers: [night]
appliances: [box]
viewers: {wall: , desk: {results: [door]}}
home_assistant: homeassistant
dashboard: true
"""
END = "the end"
BOX = "box"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One broker for the whole module, whose users are those of the roster above."""
    everybody = users(parse_roster(ROSTER), Topics(PREFIX))
    passwords = {user.name: password(user.name) for user in everybody}
    folder = tmp_path_factory.mktemp("guarded")
    with Mosquitto(folder=folder, users=passwords, acl=acl(everybody)) as broker:
        yield broker


def password(user: str) -> str:
    return f"password of {user}"


def connected(broker: Mosquitto, user: str) -> Session:
    return Session(address(broker, username=user, password=password(user)))


def as_user(broker: Mosquitto, user: str) -> list[str]:
    """The options that the C clients connect with."""
    where = ["-h", broker.host, "-p", str(broker.port), "-V", "5", "-q", "1"]
    return [*where, "-u", user, "-P", password(user)]


def is_taken(broker: Mosquitto, user: str, topic: str, *options: str) -> bool:
    """Whether the broker takes what a user publishes with mosquitto_pub."""
    command = ["mosquitto_pub", *as_user(broker, user), "-t", topic, "-m", "said", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stderr == "" or "Not authorized" in done.stderr, done.stderr
    return done.stderr == ""


class Ears:
    """What a user hears with mosquitto_sub, from when it is subscribed."""

    def __init__(self, broker: Mosquitto, user: str, *filters: str) -> None:
        # It writes into a pipe only when its buffer is full, unless told otherwise.
        command = ["stdbuf", "-oL", "mosquitto_sub", *as_user(broker, user)]
        command += ["-W", f"{WAIT_S:.0f}", "-d", "-F", "> %t %p"]
        for topic_filter in filters:
            command += ["-t", topic_filter]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._line("Subscribed")

    def until_the_end(self) -> list[str]:
        """The topics of all messages, up to one that says so."""
        topics: list[str] = []
        while (message := self.next())[1] != END:
            topics.append(message[0])
        return topics

    def next(self) -> tuple[str, str]:
        """The topic and the payload of the next message."""
        _, topic, payload = self._line("> ").split(" ", 2)
        return topic, payload

    def _line(self, start: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(start):
                return line.rstrip("\n")
        raise AssertionError("mosquitto_sub ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


SAID = {
    "gate": ("gate/request", "gate/request/north"),
    "door": ("door/request",),
    "fleet": ("gate/policy/set", "door/policy/set", "appliances/box/command"),
    "appliance": (
        "door/result", "door/result/north", "door/policy/state/box", "door/telemetry/box",
        "gate/result", "gate/result/north", "gate/policy/state/box", "gate/telemetry/box",
        "appliances/box/status", "appliances/box/telemetry", "appliances/other/status",
    ),
}  # fmt: skip
"""Something on every kind of topic, by users who may say it."""

STATES = [
    "door/policy/state/box", "door/telemetry/box", "gate/policy/state/box", "gate/telemetry/box",
    "appliances/box/status", "appliances/box/telemetry", "appliances/other/status",
]  # fmt: skip
OF_GATE = ["gate/result", "gate/result/north", "gate/policy/state/box", "gate/telemetry/box"]
OF_DOOR = ["door/result", "door/result/north", "door/policy/state/box", "door/telemetry/box"]
TOLD = [
    "gate/request", "gate/request/north", "door/request", "gate/policy/set", "door/policy/set",
    "appliances/box/command",
]  # fmt: skip

HEARD = {
    "gate": OF_GATE,
    "gate/hall": OF_GATE,
    "door": OF_DOOR,
    "gate/ops": OF_GATE[2:],
    "fleet": STATES,
    "fleet/night": STATES,
    "viewer/wall": STATES,
    "home-assistant": STATES,
    "dashboard": [*OF_DOOR[:2], *OF_GATE[:2], *STATES],
    "viewer/desk": ["door/result", "door/result/north", *STATES],
    "appliance": TOLD,
    "appliance/box": TOLD,
}


def say_everything(broker: Mosquitto) -> None:
    for user, topics in SAID.items():
        with connected(broker, user) as mouth:
            for topic in topics:
                mouth.publish(f"{PREFIX}/{topic}", b"said")


@pytest.mark.parametrize("user", HEARD)
def test_with_a_wildcard_each_hears_what_its_role_may_and_nothing_else(
    guarded: Mosquitto, user: str
) -> None:
    last = f"{PREFIX}/{HEARD[user][-1]}"
    speaker = "fleet" if user.startswith("appliance") else "appliance"

    with Ears(guarded, user, "#", "$SYS/#") as ears:
        say_everything(guarded)
        with connected(guarded, speaker) as mouth:
            mouth.publish(last, END.encode())

        assert sorted(ears.until_the_end()) == sorted(f"{PREFIX}/{topic}" for topic in HEARD[user])


@pytest.mark.parametrize("sensor", ["gate/north", "gate/yard"])
def test_a_sensor_hears_nothing(guarded: Mosquitto, sensor: str) -> None:
    with connected(guarded, sensor) as ears:
        watch = Watch(ears, "#")
        say_everything(guarded)

        # What it was sent would have come before the broker's answer to this.
        ears.watch("barrier", lambda *_: None)

        assert watch.is_silent()


@pytest.mark.parametrize(
    "topic_filter",
    [
        "delen/v1/door/result/#",
        "delen/v1/+/result/#",
        "delen/v1/door/#",
        "+/+/+/#",
        "$share/thieves/delen/v1/door/result/#",
    ],
)
def test_no_filter_reads_anothers_results(guarded: Mosquitto, topic_filter: str) -> None:
    with Ears(guarded, "gate", topic_filter, f"{PREFIX}/gate/result") as ears:
        with connected(guarded, "appliance") as appliance:
            appliance.publish(f"{PREFIX}/door/result", b"secret")
            appliance.publish(f"{PREFIX}/door/result/north", b"secret")
            appliance.publish(f"{PREFIX}/gate/result", END.encode())

        assert ears.until_the_end() == []


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("gate", "gate/request"),
        ("gate", "gate/request/any"),
        ("gate/yard", "gate/request"),
        ("gate/yard", "gate/request/any"),
        ("gate/north", "gate/request/north"),
        ("gate/ops", "gate/policy/set"),
        ("fleet/night", "door/policy/set"),
        ("fleet", "appliances/box/command"),
        ("dashboard", "gate/policy/set"),
        ("appliance/box", "appliances/box/status"),
        ("appliance/box", "gate/result/any"),
        ("a  b", "a  b/request"),
        ("北門", "北門/request/南"),
    ],
)
def test_what_a_role_is_for_is_taken(guarded: Mosquitto, user: str, topic: str) -> None:
    assert is_taken(guarded, user, f"{PREFIX}/{topic}")


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        # Another's request; a stream that is not the sensor's.
        ("gate", "door/request"),
        ("gate/yard", "door/request"),
        ("gate/north", "gate/request"),
        ("gate/north", "gate/request/south"),
        ("gate/north", "gate/request/north/below"),
        ("gate/hall", "gate/request"),
        # A policy by anybody but a fleet manager, or by one of another tenant.
        ("gate", "gate/policy/set"),
        ("gate/north", "gate/policy/set"),
        ("gate/hall", "gate/policy/set"),
        ("gate/ops", "door/policy/set"),
        ("viewer/desk", "door/policy/set"),
        # A result, a state, telemetry or a status by anybody but the appliance.
        *[(user, "gate/result") for user in ("gate", "gate/north", "gate/ops", "fleet")],
        ("dashboard", "gate/result"),
        ("gate", "gate/policy/state/box"),
        ("gate", "gate/telemetry/box"),
        *[(user, "appliances/box/status") for user in ("gate", "gate/ops", "fleet", "viewer/wall")],
        ("gate", "appliances/box/telemetry"),
        # One appliance in the other's name.
        ("appliance/box", "appliances/other/status"),
        ("appliance/box", "gate/policy/state/other"),
        ("appliance/box", "gate/telemetry/other"),
        ("appliance/box", "gate/policy/set"),
        # A command, and what is below a name that a user has and no tenant can.
        ("gate", "appliances/box/command"),
        ("gate/ops", "appliances/box/command"),
        ("dashboard", "appliances/box/command"),
        ("dashboard", "gate/request"),
        ("gate/north", "gate/north/request"),
        *[("gate", f"{name}/request") for name in RESERVED_NAMES],
        # A name that looks like its own.
        *[("gate", f"{name}/request") for name in ("gate\u200b", "\u202egate", "GATE")],
        ("gate", "gate /request"),
        ("北門", "北门/request"),
        # Outside the prefix.
        ("gate", "../gate/request"),
    ],
)  # fmt: skip
def test_what_a_role_is_not_for_is_refused(guarded: Mosquitto, user: str, topic: str) -> None:
    assert not is_taken(guarded, user, f"{PREFIX}/{topic}")


@pytest.mark.parametrize(
    "topic", ["delen/v1", "gate/request", "$SYS/broker/uptime", "homeassistant/x"]
)
def test_nothing_outside_the_prefix_is_anybodys(guarded: Mosquitto, topic: str) -> None:
    assert not any(is_taken(guarded, user, topic) for user in ("gate", "fleet", "appliance"))


def test_discovery_is_between_appliances_and_home_assistant(guarded: Mosquitto) -> None:
    device, status = "homeassistant/device/box/config", "homeassistant/status"

    with Ears(guarded, "home-assistant", "homeassistant/#") as ears:
        taken = {
            (user, topic): is_taken(guarded, user, topic)
            for user in ("appliance", "appliance/box", "home-assistant", "gate", "fleet")
            for topic in (device, status)
        }
        with connected(guarded, "home-assistant") as mouth:
            mouth.publish(status, END.encode())

        assert ears.until_the_end() == [device, device, status]
    assert [said for said, was_taken in taken.items() if was_taken] == [
        ("appliance", device),
        ("appliance/box", device),
        ("home-assistant", status),
    ]
    before = acl(users(parse_roster("tenants: {}"), Topics(PREFIX)))
    assert "homeassistant" not in before


@pytest.mark.parametrize(
    ("topic", "listener", "heard"), [("gate/request", "appliance", 1), ("door/result", "door", 0)]
)
def test_a_last_will_is_said_where_its_user_may_speak_alone(
    guarded: Mosquitto, topic: str, listener: str, heard: int
) -> None:
    last = f"{PREFIX}/{topic}"
    with Ears(guarded, listener, last) as ears:
        will = ["--will-topic", last, "--will-payload", "its last", "-t", "x"]
        dying = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", *as_user(guarded, "gate"), *will, "-d"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert dying.stdout is not None
        answer = [dying.stdout.readline() for _ in range(2)][1]
        dying.kill()
        dying.communicate()
        assert "CONNACK" in answer
        with connected(guarded, "appliance" if listener == "door" else "gate") as mouth:
            mouth.publish(last, END.encode())

        assert len(ears.until_the_end()) == heard


@contextmanager
def serving_guarded(broker: Mosquitto, folder: Path) -> Iterator[Service]:
    """An appliance at the guarded broker, as the user that is its own."""
    secret = password("appliance")
    settings = gate_settings(
        broker,
        folder,
        appliance_id=BOX,
        topic_prefix=PREFIX,
        mqtt_username="appliance",
        mqtt_password=secret,
    )
    with serving(settings) as service:
        yield service


def test_the_c_clients_get_no_reply_where_the_response_topic_is_not_their_own(
    guarded: Mosquitto, tmp_path: Path
) -> None:
    request = ["-t", f"{PREFIX}/gate/request", "-m", "x"]
    named = [f"{PREFIX}/door/result/me", f"{PREFIX}/+/result/#", "$SYS/x", "$share/x/a", "#"]
    rr = ["mosquitto_rr", *as_user(guarded, "gate"), *request, "-e", named[0]]

    with (
        serving_guarded(guarded, tmp_path),
        Ears(guarded, "door", "#") as door,
        Ears(guarded, "gate", f"{PREFIX}/gate/result") as gate,
    ):
        asking = subprocess.Popen(rr, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for response_topic in named[1:]:
            properties = ["-D", "publish", "response-topic", response_topic]
            command = ["mosquitto_pub", *as_user(guarded, "gate"), *request, *properties]
            subprocess.run(command, check=True, timeout=WAIT_S)
        refusals = [REPLY.validate_json(gate.next()[1]) for _ in named]
        asking.terminate()
        assert asking.communicate(timeout=WAIT_S)[0] == b""
        with connected(guarded, "appliance") as appliance:
            appliance.publish(f"{PREFIX}/door/result", END.encode())

        assert door.until_the_end() == []
    assert [reply.code for reply in refusals if isinstance(reply, Rejection)] == [403] * len(named)


def retained(broker: Mosquitto) -> list[str]:
    """The topics of the requests that the broker retains."""
    found: list[str] = []

    def heard(topic: str, _payload: bytes, is_retained: bool) -> None:  # noqa: FBT001
        if is_retained:
            found.append(topic)

    with connected(broker, "appliance") as client:
        client.watch(f"{PREFIX}/+/request/#", heard)
        client.watch("barrier", heard)
    return found


def test_a_sensor_does_not_fill_the_broker_with_retained_requests(
    guarded: Mosquitto, tmp_path: Path
) -> None:
    topics = [f"{PREFIX}/gate/request{rest}" for rest in ("", "/1", "/2", "/2/below/that")]
    for topic in topics:
        assert is_taken(guarded, "gate/yard", topic, "-r")
    assert sorted(retained(guarded)) == topics

    with serving_guarded(guarded, tmp_path), Ears(guarded, "gate", f"{PREFIX}/gate/#") as ears:
        for topic in topics:
            assert is_taken(guarded, "gate/yard", topic, "-r")
        refusals = [REPLY.validate_json(ears.next()[1]) for _ in topics[:3]]

        wait_until(lambda: not retained(guarded))
        with connected(guarded, "appliance") as appliance:
            appliance.publish(f"{PREFIX}/gate/result", END.encode())
        assert ears.until_the_end() == []
    assert [reply.code for reply in refusals if isinstance(reply, Rejection)] == [400] * 3


def test_who_guesses_at_the_appliances_client_id_does_not_end_its_session(
    guarded: Mosquitto, tmp_path: Path
) -> None:
    with serving_guarded(guarded, tmp_path) as service:
        mine = address(guarded, username="gate", password=password("gate"))
        intruder = new_client(mine, client_id=f"delen-{BOX}")
        intruder.connect(guarded.host, guarded.port, clean_start=True)
        intruder.loop_start()
        wait_until(intruder.is_connected)
        with connected(guarded, "gate") as gate:
            reply = gate.infer("gate", npy(), timeout_s=WAIT_S)
        intruder.disconnect()
        intruder.loop_stop()

        assert reply.status == "rejected"
        assert service.health().well


@pytest.fixture
def open_settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    """An appliance's at a broker that lets anybody say anything."""
    return gate_settings(broker, tmp_path)


def foreign(topics: Topics, appliance: str) -> Sequence[str]:
    """Response Topics that are not below the results of the tenant `gate`."""
    return (
        topics.result("door"),
        topics.result("door", "north"),
        topics.result("gates"),
        topics.result("+"),
        topics.result("#"),
        f"{topics.result('gate')}/+",
        f"{topics.result('gate')}/#",
        f"{topics.result('gate')}/",
        f"{topics.result('gate')}/a\u200bb",
        f"{topics.result('gate')}/{'a/' * 250}a",
        f"$share/x/{topics.result('gate')}",
        "$SYS/broker/version",
        topics.policy_set("gate"),
        topics.policy_state("gate", appliance),
        topics.request("gate"),
        topics.appliance_status(appliance),
        topics.appliance_command(appliance),
        "#",
        "/",
    )


def ask(client: Session, topic: str, response_topic: str | None, correlation: bytes) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    # Not through the client's own functions, which would refuse a wildcard before the broker does.
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    properties.CorrelationData = correlation
    client._client.publish(topic, npy(), qos=1, properties=properties)  # noqa: SLF001


def test_an_open_broker_lends_nobody_the_appliances_voice(open_settings: Settings) -> None:
    box = open_settings.appliance_id
    with serving(open_settings), client_of(open_settings) as client:
        push(client, POLICY)
        own = Watch(client, client.topics.result("gate"))
        topics = foreign(client.topics, box)

        for number, response_topic in enumerate(topics):
            ask(client, client.topics.request("gate"), response_topic, bytes([number]))
        ask(client, client.topics.request("gate"), None, b"last")

        replies = [REPLY.validate_json(own.next()[1]) for _ in range(len(topics) + 1)]
        codes = [reply.code for reply in replies if isinstance(reply, Rejection)]
        assert codes == [403] * len(topics)
        assert sum(isinstance(reply, Result) for reply in replies) == 1


def test_a_refused_response_topic_hears_nothing(open_settings: Settings) -> None:
    with serving(open_settings), client_of(open_settings) as client:
        push(client, POLICY)
        victim = Watch(client, client.topics.result("door"))
        own = Watch(client, client.topics.result("gate"))

        ask(client, client.topics.request("gate"), client.topics.result("door"), b"1")
        own.next()
        client.publish(client.topics.result("door"), END.encode())

        assert victim.next()[1] == END.encode()


def test_requests_under_names_that_are_no_tenants_are_passed_by(open_settings: Settings) -> None:
    names = [
        *RESERVED_NAMES,
        "ga\u200bte",
        "gate ",
        "gate\u202e",
        "a\u2028b",
        "Tu\u0308r",
        "x" * 129,
    ]
    with serving(open_settings) as service, client_of(open_settings) as client:
        push(client, POLICY)
        heard = Watch(client, f"{open_settings.topic_prefix}/+/result/#")
        states = Watch(client, f"{open_settings.topic_prefix}/+/policy/state/#")
        states.next()

        for name in names:
            client.publish(f"{open_settings.topic_prefix}/{name}/policy/set", POLICY.encode())
            client.publish(f"{open_settings.topic_prefix}/{name}/request", npy())
        reply = client.infer("gate", npy(), timeout_s=WAIT_S)

        assert reply.status == "ok"
        assert heard.next()[0].startswith(client.topics.result("gate"))
        assert heard.is_silent()
        assert states.is_silent()
        assert service.health().well


def test_a_policy_of_another_tenant_is_not_put_in_force_on_either(open_settings: Settings) -> None:
    with serving(open_settings), client_of(open_settings) as client:
        state = push(client, POLICY, tenant="door")

        replies = [client.infer(tenant, npy(), timeout_s=WAIT_S) for tenant in ("door", "gate")]

        assert state.last_rejection is not None
        assert state.last_rejection.code == 422
        assert [reply.code for reply in replies if isinstance(reply, Rejection)] == [404, 404]


def test_what_others_say_on_the_appliances_own_topics_is_not_believed(
    open_settings: Settings,
) -> None:
    box = open_settings.appliance_id
    with serving(open_settings) as service, client_of(open_settings) as client:
        in_force = push(client, POLICY)
        forged = POLICY.replace("version: 1", "version: 9").encode()

        for topic in (
            client.topics.result("gate"),
            client.topics.policy_state("gate", box),
            client.topics.telemetry("gate", box),
            client.topics.appliance_status(box),
            client.topics.appliance_telemetry(box),
            client.topics.appliance_command(f"not-{box}"),
        ):
            for payload in (forged, b"offline", b'{"drain": true}'):
                client.publish(topic, payload)
        reply = client.infer("gate", npy(), timeout_s=WAIT_S)

        assert isinstance(reply, Result)
        assert reply.policy_version == in_force.version
        assert service.health().well
        client.publish(client.topics.policy_state("gate", box), b"", retain=True)


def test_a_request_is_answered_from_the_log_only_to_its_own_tenant(open_settings: Settings) -> None:
    mark = uuid.uuid4().bytes
    with serving(open_settings), client_of(open_settings) as client:
        push(client, POLICY)
        push(client, POLICY.replace("gate", "door"), tenant="door")
        replies = Watch(client, f"{open_settings.topic_prefix}/+/result")

        ask(client, client.topics.request("gate"), None, mark)
        answer = REPLY.validate_json(replies.next()[1])
        with Reader(open_settings.database) as reader:
            wait_until(lambda: list(reader.inferences()) == [answer])
        for tenant in ("gate", "door"):
            ask(client, client.topics.request(tenant), None, mark)

        again, others = sorted(
            (REPLY.validate_json(replies.next()[1]) for _ in range(2)),
            key=lambda reply: reply.tenant == "door",
        )
        assert again == answer
        assert (others.tenant, others.id == answer.id) == ("door", False)
