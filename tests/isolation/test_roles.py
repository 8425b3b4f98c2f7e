"""What each role may say and hear at a broker with our ACL."""

from __future__ import annotations

import subprocess

import pytest

from appliance.acl import acl, users
from appliance.broker import Mosquitto
from appliance.roster import parse_roster
from appliance.topics import RESERVED_NAMES, Topics
from tests.appliances import Watch
from tests.isolation.roster import END, PREFIX, Ears, as_user, connected, is_taken

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
