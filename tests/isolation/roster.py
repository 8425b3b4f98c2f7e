"""A broker's users by their roles, and what they say and hear with Mosquitto's own clients."""

from __future__ import annotations

import subprocess

from typing_extensions import Self

from appliance.broker import Mosquitto
from appliance.session import Session
from tests.appliances import WAIT_S, address

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
