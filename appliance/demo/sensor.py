"""A simulated sensor: publishes labelled frames at its rate, and hands over what comes back."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.messages import Reply
from appliance.session import Session

JITTER = 0.3
"""How far from its time a frame may be sent, in periods: no sensor keeps step with another."""


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """A frame's bytes, and what is to be seen in it."""

    payload: bytes
    label: str


def frames_of(engine: Engine) -> list[LabelledFrame]:
    """The frames that lie beside an engine, in `frames/LABEL/`. Raises EngineError for none."""
    folder = engine.folder / "frames"
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    if not paths:
        raise EngineError(
            f"{folder} has no frames in it: put some there, in a folder for each label"
        )
    return [LabelledFrame(path.read_bytes(), path.parent.name) for path in paths]


class Sensor:
    """One tenant's sensor, which sends from `start` to `stop` in a thread of its own.

    `replied` is called with a reply and the true label of its frame, on the network thread.
    """

    def __init__(
        self,
        tenant: str,
        *,
        client: Session,
        frames: Sequence[LabelledFrame],
        rate_hz: float,
        replied: Callable[[Reply, str], None],
    ) -> None:
        self.tenant = tenant
        self.sent = 0
        self._client = client
        self._frames = frames
        self._period_s = 1.0 / rate_hz
        self._random = random.Random(tenant)
        self._replied = replied
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, name=f"sensor-{tenant}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends no more; replies still come in."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _send(self) -> None:
        started_s = time.monotonic()
        shuffled = self._random.sample(self._frames, k=len(self._frames))
        for number, frame in enumerate(itertools.cycle(shuffled)):
            jitter = self._random.uniform(0.0, JITTER)
            due_s = started_s + (number + jitter) * self._period_s
            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                return
            self._submit(frame)

    def _submit(self, frame: LabelledFrame) -> None:
        def done(reply: Future[Reply]) -> None:
            self._replied(reply.result(), frame.label)

        self._client.submit(self.tenant, frame.payload, stream="demo").add_done_callback(done)
        self.sent += 1
