"""The demo's scene: puts broker, appliance, sensors and fleet manager together, and plays it."""

from __future__ import annotations

import secrets
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory

from typing_extensions import Self

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.demo.child import Appliance
from appliance.demo.dashboard import Dashboard
from appliance.demo.fleet import FleetManager
from appliance.demo.policies import REHEARSAL, Change, demo_policies, rehearsals
from appliance.demo.rehearsal import rehearse
from appliance.demo.sensor import LabelledFrame, Sensor, frames_of
from appliance.demo.tally import TenantTally
from appliance.engine import Engine
from appliance.errors import MeterError
from appliance.messages import Reply
from appliance.power.meters import AUTO, MeterOptions, Search
from appliance.session import Session

APPLIANCE = "demo"
FLEET_MANAGER = "fleet-manager"
DASHBOARD = "dashboard"
TENANTS = ("gate", "meter", "garden")
PREFIX = "delen/v1"

LOAD = 0.3
"""The share of its time that the accelerator works, were every request to reach the last exit."""

MAX_RATE_HZ = 20.0
TICK_S = 0.2

TELEMETRY_INTERVAL = "1s"
"""Often, since the demo is short."""

LAST_REPLIES_S = 5.0


class Scene:
    """Entered, an appliance is online with the first policies in force; left, nothing runs on.

    Raises DelenError where a part of it cannot start.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.changes: tuple[Change, ...] = ()
        self.rate_hz = 0.0
        """Frames per second and sensor."""
        self.changed_s: float | None = None
        """When the second policies were in force, in seconds since the sensors started."""
        self.ran_out_s: dict[str, float] = {}
        """When tenants' budgets were first seen to be spent."""
        self.meter = ""
        """What the joules are measured by, in words."""
        self.dashboard: str | None = None
        """Where a browser finds the dashboard, None where it is not installed."""
        exits = len(engine.stages)
        self.tallies = {tenant: TenantTally(exits=exits) for tenant in TENANTS}
        self._replies: Queue[tuple[str, Reply, str]] = Queue()
        self._sensors: list[Sensor] = []
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        frames = frames_of(self.engine)
        rehearsal = rehearsals(self.engine)
        users = (APPLIANCE, FLEET_MANAGER, DASHBOARD, REHEARSAL, *TENANTS)
        self._passwords = {user: secrets.token_urlsafe(16) for user in users}
        with ExitStack() as parts:
            self.meter, meter = choose_meter()
            self._broker, self._appliance, dashboard = self._start(parts, meter)
            self._fleet_manager = FleetManager(
                parts.enter_context(self._client(FLEET_MANAGER)), self._appliance
            )
            self._fleet_manager.wait_online()
            # What starts takes time of the machine, and the rehearsal measures that.
            self.dashboard = dashboard.address_once_it_listens()
            with self._client(REHEARSAL) as client:
                pace = rehearse(rehearsal, frames=frames, client=client, fleet=self._fleet_manager)
            self.changes = demo_policies(self.engine, pace)
            self.rate_hz = min(MAX_RATE_HZ, LOAD / pace.deepest_p50_s / len(self.changes))
            self._fleet_manager.put_in_force([change.before for change in self.changes])
            self._sensors = [self._sensor(tenant, frames, parts) for tenant in TENANTS]
            self._parts = parts.pop_all()
        return self

    def _start(
        self, parts: ExitStack, meter: Mapping[str, str]
    ) -> tuple[Mosquitto, Appliance, Dashboard]:
        folder = Path(parts.enter_context(TemporaryDirectory(prefix="delen-demo-")))
        broker = Mosquitto(folder=folder / "broker", users=self._passwords, acl=acl())
        parts.enter_context(broker)
        settings = _settings(self.engine, folder, broker, self._passwords[APPLIANCE])
        appliance = parts.enter_context(
            Appliance(APPLIANCE, folder=folder, settings={**settings, **meter})
        )
        user = {"MQTT_USERNAME": DASHBOARD, "MQTT_PASSWORD": self._passwords[DASHBOARD]}
        dashboard = Dashboard(
            folder=folder, settings={**settings, **user, "APPLIANCE_ID": APPLIANCE}
        )
        parts.enter_context(dashboard)
        return broker, appliance, dashboard

    def _client(self, user: str) -> Session:
        address = BrokerAddress(
            host=self._broker.host,
            port=self._broker.port,
            username=user,
            password=self._passwords[user],
        )
        return Session(address, prefix=PREFIX)

    def _sensor(self, tenant: str, frames: Sequence[LabelledFrame], parts: ExitStack) -> Sensor:
        sensor = Sensor(
            tenant,
            client=parts.enter_context(self._client(tenant)),
            frames=frames,
            rate_hz=self.rate_hz,
            replied=lambda reply, label: self._replies.put((tenant, reply, label)),
        )
        parts.callback(sensor.stop)
        return sensor

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def play(self, duration_s: float, stop: threading.Event) -> Iterator[float]:
        """Lets the sensors send for so long, or until `stop`; half-way the policies change.

        Yields the seconds since the start every now and then, with the tallies up to date. Raises
        ServiceError where the appliance ends or turns a policy away.
        """
        started_s = time.monotonic()
        for sensor in self._sensors:
            sensor.start()
        while (now_s := time.monotonic() - started_s) < duration_s and not stop.is_set():
            if self.changed_s is None and now_s >= duration_s / 2:
                self.changes = tuple(
                    change.after_spending(self.tallies[change.tenant].total.energy_j)
                    for change in self.changes
                )
                self._fleet_manager.put_in_force([change.after for change in self.changes])
                self.changed_s = now_s
            self._take_replies(started_s + min(now_s + TICK_S, duration_s))
            self._appliance.check()
            now_s = time.monotonic() - started_s
            for tenant, tally in self.tallies.items():
                if tally.total.over_budget:
                    self.ran_out_s.setdefault(tenant, now_s)
            yield now_s

    def settle(self) -> None:
        """Stops the sensors and waits a little for the replies that are still on their way."""
        for sensor in self._sensors:
            sensor.stop()
        deadline_s = time.monotonic() + LAST_REPLIES_S
        self._take_replies(time.monotonic() + TICK_S)
        while self._outstanding() and time.monotonic() < deadline_s:
            self._take_replies(time.monotonic() + TICK_S)

    def appliance_log(self) -> str:
        """The end of what the appliance logged; to be asked for before the scene is left."""
        return self._appliance.last_lines()

    def _outstanding(self) -> int:
        replied = sum(
            tally.total.answered + tally.total.rejected for tally in self.tallies.values()
        )
        return sum(sensor.sent for sensor in self._sensors) - replied

    def _take_replies(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            try:
                tenant, reply, label = self._replies.get(timeout=left_s)
            except Empty:
                break
            self.tallies[tenant].take(reply, true_label=label)
        for sensor in self._sensors:
            self.tallies[sensor.tenant].sent = sensor.sent


def choose_meter() -> tuple[str, dict[str, str]]:
    """This machine's own meter in words and settings, else the stand-in that follows the load."""
    search = Search(name=AUTO, options=MeterOptions())
    readings = search.readings()
    try:
        next(readings)
    except MeterError:
        command = [sys.executable, "-m", "appliance.demo.tegrastats", "--board", "orin-nano"]
        settings = {"METER": "tegrastats", "TEGRASTATS": shlex.join(command)}
        return "a stand-in for tegrastats that follows the load", settings
    finally:
        readings.close()
    name = AUTO if search.meter is None else search.meter.name
    return name, {"METER": name}


def acl() -> str:
    """Who may say and hear what: the text of Mosquitto's ACL file."""
    rules = [
        f"user {APPLIANCE}",
        f"topic readwrite {PREFIX}/#",
        f"user {FLEET_MANAGER}",
        f"topic write {PREFIX}/+/policy/set",
        f"topic read {PREFIX}/+/policy/state/#",
        f"topic read {PREFIX}/appliances/+/status",
        f"user {DASHBOARD}",
        f"topic read {PREFIX}/+/policy/state/#",
        f"topic read {PREFIX}/+/telemetry/+",
        f"topic read {PREFIX}/+/result/#",
        f"topic read {PREFIX}/appliances/+/status",
        f"topic read {PREFIX}/appliances/+/telemetry",
    ]
    for tenant in (REHEARSAL, *TENANTS):
        rules += [
            f"user {tenant}",
            f"topic write {PREFIX}/{tenant}/request/#",
            f"topic read {PREFIX}/{tenant}/result/#",
        ]
    return "\n".join([*rules, ""])


def _settings(engine: Engine, folder: Path, broker: Mosquitto, password: str) -> dict[str, str]:
    (folder / "conditions").mkdir()
    return {
        "MQTT_HOST": broker.host,
        "MQTT_PORT": str(broker.port),
        "MQTT_USERNAME": APPLIANCE,
        "MQTT_PASSWORD": password,
        "TOPIC_PREFIX": PREFIX,
        "ENGINES": str(engine.folder.parent),
        "CONDITIONS": str(folder / "conditions"),
        "DATABASE": str(folder / "delen.db"),
        "TELEMETRY_INTERVAL": TELEMETRY_INTERVAL,
    }
