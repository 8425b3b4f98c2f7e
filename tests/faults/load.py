"""Load from real clients: sensors of three tenants, and a fleet manager."""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random

from typing_extensions import Self

from appliance.topics import Topics
from tests.faults import faulty_engine
from tests.faults.fleet import Fleet
from tests.faults.sensor import Sensor

GATE, METER, LAB = "gate", "meter", "lab"
ENGINES = {GATE: "digits", METER: "digits", LAB: faulty_engine.NAME}

BEAT_S = 0.05
PUSH_EVERY = 14
EXPIRED = frozenset({408, 429})
"""How a request is rejected for which its time is over, or will be before it can be answered."""
ODD_EVERY = 10
"""Every so many beats something unusual is sent: what expires, what names a foreign topic."""


class Load:
    """Sends while the `with` block around it runs, a request every beat and more now and then.

    The probe, one of the gate's sensors, speaks to the broker itself, the others through the
    proxy at `proxy_port`. `tolerated` are the codes with which any request may be rejected.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        broker_port: int,
        proxy_port: int,
        frames: Path,
        seed: str,
        tolerated: frozenset[int] = frozenset(),
        tolerated_in_lab: frozenset[int] = frozenset(),
    ) -> None:
        self._topics = topics
        self._frames = [path.read_bytes() for path in sorted(frames.rglob("*.jpg"))[::20]]
        self._chance = Random(seed)
        self._tolerated = tolerated
        self._tolerated_in_lab = tolerated | tolerated_in_lab
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._clients = ExitStack()

        def sensor(name: str, tenant: str, port: int, *, marked: bool = True) -> Sensor:
            return Sensor(
                name=f"{name}-{seed.replace('/', '-')}",
                tenant=tenant,
                topics=topics,
                port=port,
                marked=marked,
            )

        self.probe = sensor("probe", GATE, broker_port)
        self.camera = sensor("camera", GATE, proxy_port)
        self.counter = sensor("counter", METER, proxy_port, marked=False)
        self.bench = sensor("bench", LAB, proxy_port)
        self.sensors = (self.probe, self.camera, self.counter, self.bench)
        self.fleet = Fleet(topics=topics, port=broker_port)

    def __enter__(self) -> Self:
        with ExitStack() as clients:
            for one in (*self.sensors, self.fleet):
                clients.enter_context(one)
            self._clients = clients.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._clients.close()

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Sends nothing new; what the broker has not acknowledged is still sent again."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def outstanding(self) -> int:
        """How much the broker has not acknowledged."""
        return self.fleet.outstanding() + sum(one.outstanding() for one in self.sensors)

    def break_stage(self, mean: float) -> None:
        """Sends the lab's engine a frame that brings a fault about."""
        may_fail = self._tolerated_in_lab | {500}
        self.bench.send(faulty_engine.frame(mean), tolerated=may_fail)

    def send_large(self, frame: bytes) -> None:
        """Sends something that takes much memory to decode."""
        self.camera.send(frame, tolerated=self._tolerated)

    def _run(self) -> None:
        for beat in itertools.count(1):
            if self._stop.wait(BEAT_S):
                return
            self._send(beat)

    def _send(self, beat: int) -> None:
        chance, tolerated = self._chance, self._tolerated
        self.probe.send(chance.choice(self._frames), tolerated=tolerated)
        if beat % 2:
            self.camera.send(chance.choice(self._frames), tolerated=tolerated)
        else:
            self.counter.send(chance.choice(self._frames), tolerated=tolerated)
        if beat % 4 == 0:
            well = faulty_engine.frame(faulty_engine.WELL)
            self.bench.send(well, tolerated=self._tolerated_in_lab)
        if beat % ODD_EVERY == 0:
            self._send_oddity(beat // ODD_EVERY)
        if beat % PUSH_EVERY == 0:
            self._push(beat // PUSH_EVERY)

    def _send_oddity(self, number: int) -> None:
        frame = self._chance.choice(self._frames)
        if number % 2:
            self.camera.send(frame, tolerated=self._tolerated | EXPIRED, expires_s=1)
        else:
            foreign = self._topics.result(METER, self.counter.name)
            self.camera.send(frame, tolerated=self._tolerated | {403}, foreign_topic=foreign)

    def _push(self, number: int) -> None:
        tenant = list(ENGINES)[number % len(ENGINES)]
        if number % 4 == 3:
            self.fleet.push_nonsense(tenant)
        else:
            self.fleet.push(tenant, ENGINES[tenant])
