"""A broker, an appliance, bad network between, and who looks on: all real, all on loopback."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from typing_extensions import Self

from appliance import records
from appliance.broker import Mosquitto
from appliance.database import open_for_reading
from appliance.ledger import HOUR_S
from appliance.reader import Reader
from appliance.topics import Topics
from tests.faults.faulty_engine import NAME as FAULTY
from tests.faults.faulty_engine import faulty_engine
from tests.faults.history import Forgotten, History, Row
from tests.faults.load import ENGINES, Load
from tests.faults.observer import Observer
from tests.faults.proxy import Proxy
from tests.faults.serving import ROOT, Serving

APPLIANCE = "box"
DIGITS = ROOT / "engines" / "digits"
POLL_S = 0.02
READY_S = 120.0
LINES_SHOWN = 3


class World:
    """All that one schedule needs, in a folder of its own. Entered, policies are in force.

    `database_folder` may lie on a disk of its own; `metered` tells whether power is measured.
    """

    def __init__(
        self,
        *,
        folder: Path,
        seed: str,
        database_folder: Path,
        metered: bool,
        environment: dict[str, str],
        tolerated: frozenset[int] = frozenset(),
        tolerated_in_lab: frozenset[int] = frozenset(),
    ) -> None:
        self.folder = folder
        self.database = database_folder / "delen.db"
        self.nonsense = folder / "nonsense"
        self.clock = folder / "clock"
        self.topics = Topics("faults")
        self.forgotten: list[Forgotten] = []
        self.rows_lost_until_s = float("-inf")
        self.appliance_killed = self.ended = False
        self._seed = seed
        self._metered = metered
        self._environment = environment
        self._tolerated = tolerated
        self._tolerated_in_lab = tolerated_in_lab
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            self._build(parts)
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def _build(self, parts: ExitStack) -> None:
        engines, conditions = self.folder / "engines", self.folder / "conditions"
        conditions.mkdir(parents=True)
        faulty_engine(engines / FAULTY)
        shutil.copytree(DIGITS, engines / "digits", ignore=shutil.ignore_patterns("frames"))
        self.broker = Mosquitto(folder=self.folder / "broker", persistence=True)
        parts.enter_context(self.broker)
        port = self.broker.port
        self.near = parts.enter_context(Proxy(target_port=port, seed=f"{self._seed}/near"))
        self.far = parts.enter_context(Proxy(target_port=port, seed=f"{self._seed}/far"))
        self.observer = parts.enter_context(
            Observer(topics=self.topics, appliance=APPLIANCE, port=port)
        )
        self.load = parts.enter_context(self._new_load())
        meter = [sys.executable, "-m", "tests.faults.meter", str(self.nonsense)]
        self.serving = Serving(
            folder=self.folder,
            settings={
                "APPLIANCE_ID": APPLIANCE,
                "MQTT_HOST": self.broker.host,
                "MQTT_PORT": str(self.near.port),
                "TOPIC_PREFIX": self.topics.prefix,
                "ENGINES": str(engines),
                "CONDITIONS": str(conditions),
                "DATABASE": str(self.database),
                "THREADS": "1",
                "BACKEND": "onnx",
                "METER": "tegrastats" if self._metered else "modelled",
                "METER_INTERVAL": "50ms",
                "TEGRASTATS": shlex.join(meter),
                "TELEMETRY_INTERVAL": "500ms",
            },
            environment=self._environment,
        )
        parts.callback(self.serving.kill)
        self._wait_in_force()

    def _new_load(self) -> Load:
        return Load(
            topics=self.topics,
            broker_port=self.broker.port,
            proxy_port=self.far.port,
            frames=DIGITS / "frames",
            seed=self._seed,
            tolerated=self._tolerated,
            tolerated_in_lab=self._tolerated_in_lab,
        )

    def _wait_in_force(self) -> None:
        for tenant, engine in ENGINES.items():
            self.load.fleet.push(tenant, engine)
        self.serving.start()
        everyone = {(tenant, 1) for tenant in ENGINES}

        def is_ready() -> bool:
            # What policies are in force is told before the requests are subscribed to.
            return b"online" in self.observer.statuses and everyone <= {
                (one.tenant, one.version) for one in self.observer.told
            }

        if not wait_for(is_ready, READY_S):
            last = self.serving.log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
            raise TimeoutError(
                "the policies are not in force; the log ends with: " + "; ".join(last)
            )

    def kill_broker(self) -> None:
        """SIGKILL, and what it forgets by that."""
        self.broker.kill()
        killed_s = time.time()
        self.forgotten.append(Forgotten(saved_s=self.broker_saved_s(), killed_s=killed_s))

    def wait_until_saved(self) -> None:
        """Waits until the broker has written down what it keeps now, the appliance's session too.

        A killed broker forgets a session that is younger than that, and with it whatever comes
        before the appliance is back.
        """
        now_s = time.time()
        if not wait_for(lambda: self.broker_saved_s() > now_s, READY_S):
            raise TimeoutError("the broker saves nothing")

    def broker_saved_s(self) -> float:
        """When the broker last wrote down what it keeps; it takes nothing in while it does."""
        try:
            return (self.folder / "broker" / "mosquitto.db").stat().st_mtime
        except FileNotFoundError:
            return float("-inf")

    def kill_appliance(self) -> None:
        """SIGKILL."""
        self.appliance_killed = True
        self.serving.kill()

    def end_appliance(self) -> int | None:
        """SIGTERM; its exit code, None where it does not end."""
        code = self.serving.end()
        self.ended = code == 0
        return code

    def recovered_s(self, since_s: float, patience_s: float) -> float | None:
        """After how long a request that came later was answered; None where none was.

        An appliance that ends by itself meanwhile is started again, as a supervisor would.
        """
        found: list[float] = []

        def is_answered() -> bool:
            self.serving.revive()
            published = {one.correlation: one.published_s for one in self.load.probe.sent()}
            found.extend(
                heard.at_s
                for heard in self.observer.results(b"probe")
                if published.get(heard.correlation, 0.0) >= since_s
            )
            return bool(found)

        return min(found) - since_s if wait_for(is_answered, patience_s) else None

    def history(self) -> History:
        """What happened so far. Raises StoreError or sqlite3.Error where the log is unreadable."""
        with Reader(self.database) as reader:
            ledger = reader.ledger(period_s=HOUR_S)
            in_force = {policy.tenant: policy.version for policy in reader.policies()}
        return History(
            sent=[sent for sensor in self.load.sensors for sent in sensor.sent()],
            heard=list(self.observer.heard),
            rows=rows_of(self.database),
            pushes=self.load.fleet.pushes(),
            told=list(self.observer.told),
            in_force=in_force,
            joules=list(self.observer.joules),
            ledger=ledger,
            forgotten=tuple(self.forgotten),
            rows_lost_until_s=self.rows_lost_until_s,
            appliance_killed=self.appliance_killed or bool(self.serving.ended_by_itself),
            ended=self.ended,
        )


def rows_of(database: Path) -> list[Row]:
    """The whole log."""
    with closing(open_for_reading(database).conn) as connection:
        connection.row_factory = sqlite3.Row
        return [
            Row(reply=records.reply_of(row), correlation=row["correlation"])
            for row in connection.execute("SELECT * FROM inferences")
        ]


def wait_for(condition: Callable[[], bool], patience_s: float) -> bool:
    """Waits until a condition holds; false where it does not come about."""
    ends_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(POLL_S)
    return True
