"""A minute of a real appliance on a stand-in for tegrastats: what its budgets let tenants spend."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.demo.sensor import LabelledFrame, Sensor, frames_of
from appliance.engine import Engine
from appliance.ledger import HOUR_S
from appliance.messages import Reply, Result
from appliance.reader import Reader
from appliance.session import Session
from benchmarks.rig import NAME, WAIT_S, running_appliance

PERIOD_S = 60.0
REHEARSAL_S = 12.0
"""How long tenants send without budgets before, to learn what their requests cost here."""

LAST_MOMENT_S = 0.3
"""How long before the period ends the sensors stop: what they sent is still charged to it."""

RATE_HZ = 25.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A tenant, and how far between answers from the first and the last exit its budget lies."""

    tenant: str
    part: float
    rest: str = ""
    """What else its budget says, in YAML."""

    def policy(self, version: int, rest: str = "") -> str:
        return f"tenant: {self.tenant}\nversion: {version}\nengine: digits\n{rest}"

    def budget(self, joules: float) -> str:
        return f"budget: {{energy: {joules!r}, per: {PERIOD_S:g}s{self.rest}}}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """What a tenant spent in the minute, and what it might have."""

    budget_j: float
    cheapest_j: float
    dearest_j: float
    """What all answers from the first, and from the last exit would have cost, as rehearsed."""
    spent_j: float
    answered: int
    accuracy: float

    @property
    def off(self) -> float:
        """How far the spending was from the budget, as a part of that."""
        return self.spent_j / self.budget_j - 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """What came of it. The integral and the truth are of the same time, the appliance's whole."""

    tenants: Mapping[str, Spending]
    integrated_j: float
    true_j: float


class Rig:
    """An appliance on the stand-in, its tenants' sensors, and its ledger."""

    def __init__(self, broker: Mosquitto, folder: Path, engine: Engine) -> None:
        self._address = BrokerAddress(host=broker.host, port=broker.port)
        self._database = folder / "delen.db"
        self._frames = frames_of(engine)

    def push(self, tenant: str, version: int, policy: str) -> None:
        """Puts a tenant's policy in force."""
        in_force = threading.Event()

        def received(_topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
            if json.loads(payload)["version"] == version:
                in_force.set()

        with Session(self._address) as client:
            client.watch(client.topics.policy_state(tenant, NAME), received)
            client.publish(client.topics.policy_set(tenant), policy.encode())
            if not in_force.wait(WAIT_S):
                raise TimeoutError(f"the policy of {tenant} is not in force")

    def spent_j(self) -> dict[str, float]:
        """What each tenant was charged so far, once it is written."""
        time.sleep(1.5)
        with Reader(self._database) as reader:
            rows = reader.ledger(period_s=HOUR_S)
        spent: dict[str, float] = {}
        for row in rows:
            spent[row.account] = spent.get(row.account, 0.0) + row.measured_j + row.modelled_j
        return spent

    def power_w(self, tenants: Sequence[str]) -> dict[str, float]:
        """What each tenant's requests are charged a second, as its policy is now."""
        before_j = self.spent_j()
        self.send(tenants, REHEARSAL_S)
        after_j = self.spent_j()
        return {name: (after_j[name] - before_j.get(name, 0.0)) / REHEARSAL_S for name in tenants}

    def send(self, tenants: Sequence[str], seconds: float) -> dict[str, list[bool]]:
        """Lets all tenants send; by tenant, whether each of its answers was right."""
        replies: SimpleQueue[tuple[str, Reply, str]] = SimpleQueue()
        with self._sensors(tenants, replies) as sensors:
            ends_s = time.monotonic() + seconds
            for sensor in sensors:
                sensor.start()
            time.sleep(max(0.0, ends_s - time.monotonic()))
            for sensor in sensors:
                sensor.stop()
            time.sleep(LAST_MOMENT_S)
        right: dict[str, list[bool]] = {tenant: [] for tenant in tenants}
        while not replies.empty():
            tenant, reply, label = replies.get()
            if isinstance(reply, Result):
                right[tenant].append(reply.label == label)
        return right

    @contextmanager
    def _sensors(
        self, tenants: Sequence[str], replies: SimpleQueue[tuple[str, Reply, str]]
    ) -> Iterator[list[Sensor]]:
        with Session(self._address) as client:
            yield [self._sensor(tenant, client, replies) for tenant in tenants]

    def _sensor(
        self, tenant: str, client: Session, replies: SimpleQueue[tuple[str, Reply, str]]
    ) -> Sensor:
        frames: Sequence[LabelledFrame] = self._frames
        return Sensor(
            tenant,
            client=client,
            frames=frames,
            rate_hz=RATE_HZ,
            replied=lambda reply, label: replies.put((tenant, reply, label)),
        )


def play(engine: Engine, shares: Sequence[Share], folder: Path) -> Minute:
    """Rehearses to learn what answers cost here, gives every tenant its budget, and sends."""
    truth = folder / "truth.jsonl"
    settings = {"METER": "tegrastats", "TEGRASTATS": stand_in("--truth", str(truth))}
    first = {share.tenant: share.policy(1, "exit_when: exit >= 0\n") for share in shares}
    with Mosquitto(folder=folder / "broker") as broker:
        with running_appliance(
            broker, folder, engines=engine.folder.parent, policies=first, settings=settings
        ):
            rig = Rig(broker, folder, engine)
            tenants = _minute(rig, shares)
        with Reader(folder / "delen.db") as reader:
            integrated_j = sum(row.measured_j for row in reader.ledger(period_s=HOUR_S))
    begin, *_, end = (json.loads(line) for line in truth.read_text().splitlines())
    true_j = end["energy_j"] - begin["energy_j"]
    return Minute(tenants=tenants, integrated_j=integrated_j, true_j=true_j)


def _minute(rig: Rig, shares: Sequence[Share]) -> dict[str, Spending]:
    names = [share.tenant for share in shares]
    first_w = rig.power_w(names)
    for share in shares:
        rig.push(share.tenant, 2, share.policy(2))
    last_w = rig.power_w(names)
    budgets_j = {}
    for share in shares:
        cheapest_w, dearest_w = first_w[share.tenant], last_w[share.tenant]
        power_w = cheapest_w + share.part * (dearest_w - cheapest_w)
        budgets_j[share.tenant] = power_w * PERIOD_S
        rig.push(share.tenant, 3, share.policy(3, share.budget(power_w * PERIOD_S)))
    before_j = rig.spent_j()
    right = rig.send(names, PERIOD_S - LAST_MOMENT_S)
    after_j = rig.spent_j()
    return {
        name: Spending(
            budget_j=budgets_j[name],
            cheapest_j=first_w[name] * PERIOD_S,
            dearest_j=last_w[name] * PERIOD_S,
            spent_j=after_j[name] - before_j[name],
            answered=len(right[name]),
            accuracy=sum(right[name]) / max(1, len(right[name])),
        )
        for name in names
    }


def stand_in(*arguments: str) -> str:
    """The command of the stand-in for tegrastats, as an Orin Nano prints it."""
    program = [sys.executable, "-m", "appliance.demo.tegrastats", "--board", "orin-nano"]
    return shlex.join([*program, *arguments])
