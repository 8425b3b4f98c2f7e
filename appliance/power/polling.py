"""A sensor that is asked, made a meter that speaks in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from appliance.power.protocol import Reading


class Sensor(Protocol):
    """Something that says what it sees when it is asked."""

    def read(self) -> Reading | None:
        """What it sees now; None where it has to be asked once more. Raises MeterError."""


class PolledMeter:
    """Asks a sensor every `interval_s`. `open_sensor` is called when the readings begin."""

    def __init__(
        self,
        name: str,
        open_sensor: Callable[[], AbstractContextManager[Sensor]],
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._open_sensor = open_sensor
        self._interval_s = interval_s
        self._clock = clock
        self._closed = threading.Event()

    def readings(self) -> Iterator[Reading]:
        with self._open_sensor() as sensor:
            due_s = self._clock() + self._interval_s
            while not self._closed.wait(max(0.0, due_s - self._clock())):
                reading = sensor.read()
                if reading is not None:
                    yield reading
                # From now on, not from when it was due: what was missed is not made up for.
                due_s = max(due_s + self._interval_s, self._clock())

    def close(self) -> None:
        self._closed.set()
