"""Appliances for the tests: in this process, or as the real command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from typing_extensions import Self

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.messages import POLICY_STATE, PolicyState
from appliance.service import Service
from appliance.session import Session
from appliance.settings import Settings, read_settings
from tests.waiting import PATIENCE_S

WAIT_S = PATIENCE_S


def address(
    broker: Mosquitto, *, username: str | None = None, password: str | None = None
) -> BrokerAddress:
    return BrokerAddress(host=broker.host, port=broker.port, username=username, password=password)


def settings_for(broker: Mosquitto, folder: Path, **overrides: object) -> Settings:
    """Settings of an appliance with a topic prefix, a database and folders of its own."""
    (folder / "conditions").mkdir(exist_ok=True)
    values: dict[str, object] = {
        "appliance_id": f"box-{uuid.uuid4().hex[:8]}",
        "mqtt_host": broker.host,
        "mqtt_port": broker.port,
        "topic_prefix": f"test/{uuid.uuid4().hex[:8]}",
        "engines": folder / "engines",
        "conditions": folder / "conditions",
        "database": folder / "delen.db",
        "threads": 1,
        "meter": "modelled",
        "backup_keep": 0,
        "commit_interval": 0.01,
    }
    return read_settings(**{**values, **overrides})


@contextmanager
def serving(settings: Settings) -> Iterator[Service]:
    """An appliance in this process, online."""
    with Service(settings) as service:
        assert service.wait_online(WAIT_S)
        yield service


@contextmanager
def client_of(settings: Settings) -> Iterator[Session]:
    broker = BrokerAddress(host=settings.mqtt_host, port=settings.mqtt_port)
    with Session(broker, prefix=settings.topic_prefix) as client:
        yield client


class Watch:
    """What is published on a topic filter, in order."""

    def __init__(self, client: Session, topic_filter: str) -> None:
        self._messages: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        client.watch(topic_filter, lambda topic, payload, _: self._messages.put((topic, payload)))

    def next(self, timeout_s: float = WAIT_S) -> tuple[str, bytes]:
        return self._messages.get(timeout=timeout_s)

    def is_silent(self) -> bool:
        return self._messages.empty()


def push(
    client: Session, policy: str, *, tenant: str = "gate", retain: bool = False
) -> PolicyState:
    """Pushes a policy and returns the state that the appliance answers with."""
    states: SimpleQueue[bytes] = SimpleQueue()

    def received(_topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001
        if not retained:
            states.put(payload)

    client.watch(client.topics.policy_state(tenant, "+"), received)
    client.publish(client.topics.policy_set(tenant), policy.encode(), retain=retain)
    return POLICY_STATE.validate_json(states.get(timeout=WAIT_S))


class ApplianceProcess:
    """`delen serve` in a process of its own, which can be killed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns once it is online."""
        names = (
            "appliance_id", "mqtt_host", "mqtt_port", "topic_prefix", "threads", "meter",
            "tegrastats", "frame_memory", "max_frame", "rejection_rate", "stage_timeout",
            "opening_timeout",
        )  # fmt: skip
        paths = ("engines", "conditions", "database")
        environment = {
            f"DELEN_{name.upper()}": str(getattr(self._settings, name)) for name in names
        }
        environment |= {
            f"DELEN_{name.upper()}": str(getattr(self._settings, name).resolve()) for name in paths
        }
        with client_of(self._settings) as client:
            status = Watch(client, client.topics.appliance_status(self._settings.appliance_id))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli", "serve"],
                env={**os.environ, **environment},
                stderr=subprocess.DEVNULL,
            )
            while status.next()[1] != b"online":
                pass

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing saved."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(WAIT_S)

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT_S)

    def wait(self) -> int:
        """Waits until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(WAIT_S)
