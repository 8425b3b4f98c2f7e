"""The thread that reads power for as long as the appliance runs, whatever becomes of the meter."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import Self

from appliance.errors import MeterError
from appliance.power.meters import MODELLED, MeterOptions, Search
from appliance.power.protocol import STALL_S, Reading

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 60.0
LONG_ENOUGH_S = 10.0
"""After so long without a failure, the next one is taken for the first."""

_JOIN_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MeterStatus:
    """How the meter fares. `name` is that of the meter that gives readings now, or `modelled`."""

    name: str
    failure: str | None
    """Why there are no readings, as a sentence; None while there are, and where none are asked."""
    reading: Reading | None
    """The newest, None where it is too old to tell of now."""


class Sampler:
    """Reads a meter and hands on what it says; one that fails is opened anew, less and less often.

    `deliver` is called with each reading, in this thread.
    """

    def __init__(
        self,
        name: str,
        *,
        options: MeterOptions,
        deliver: Callable[[Reading], None],
    ) -> None:
        self._name = name
        self._options = options
        self._deliver = deliver
        self._stopping = threading.Event()
        self._search: Search | None = None
        self._latest: tuple[str, Reading] | None = None
        self._failure: str | None = None
        self._said: str | None = None
        # A sensor that hangs in the kernel must not keep the appliance from ending.
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def __enter__(self) -> Self:
        if self._name != MODELLED:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._search is not None:
            self._search.close()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def may_read(self) -> bool:
        """Whether there is a meter that is being read, or still looked for."""
        return self._name != MODELLED and self._failure is None

    def status(self) -> MeterStatus:
        """How the meter fares now; may be asked from any thread."""
        latest, failure = self._latest, self._failure
        stale = latest is None or self._options.clock() - latest[1].time_s > STALL_S
        if failure is None and stale and self._name != MODELLED:
            failure = "no reading at the moment"
        if latest is None or failure is not None:
            return MeterStatus(name=MODELLED, failure=failure, reading=None)
        return MeterStatus(name=latest[0], failure=None, reading=latest[1])

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started_s = time.monotonic()
            self._search = Search(name=self._name, options=self._options)
            try:
                self._read(self._search)
            except MeterError as error:
                self._complain(str(error))
            except Exception as error:  # noqa: BLE001 - a library of others may raise anything
                _log.exception("the meter failed in a way of its own")
                self._complain(f"the meter failed: {error!r}")
            if time.monotonic() - started_s > LONG_ENOUGH_S:
                pause_s = FIRST_PAUSE_S
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    def _read(self, search: Search) -> None:
        for reading in search.readings():
            if self._stopping.is_set():
                return
            name = self._name if search.meter is None else search.meter.name
            if self._latest is None or self._failure is not None:
                _log.info(
                    "power is read from %s: %.1f W, the sum of %s",
                    name, reading.total_w, ", ".join(reading.total_of),
                )  # fmt: skip
            self._failure = self._said = None
            self._latest = (name, reading)
            self._deliver(reading)

    def _complain(self, sentence: str) -> None:
        self._failure = sentence
        if sentence != self._said:
            _log.warning("power is not measured, energy is modelled: %s", sentence)
            self._said = sentence
