"""The meter at work: what it reads is accounted for in the executor's thread."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from typing_extensions import Self

from appliance.loop import ExecutorLoop
from appliance.power.meters import MeterOptions
from appliance.power.protocol import Reading
from appliance.power.sampler import Sampler
from appliance.settings import Settings
from appliance.tenancy import DeviceState, Tenancy

BASELINE_TIMEOUT_S = 3.0
BASELINE_POLL_S = 0.05


class Metering:
    """Owns the sampler of the meter that the settings name; entered while the loop runs.

    When it is entered the meter sees the machine idle, as it may not be again for long.
    """

    def __init__(self, settings: Settings, *, loop: ExecutorLoop, tenancy: Tenancy) -> None:
        self._loop = loop
        self._tenancy = tenancy
        self._parts = ExitStack()
        self.sampler = Sampler(
            settings.meter,
            options=MeterOptions(
                interval_s=settings.meter_interval, tegrastats=settings.tegrastats
            ),
            deliver=self._take,
        )

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            parts.enter_context(self.sampler)
            self._wait_for_idle_baseline()
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def tick(self) -> None:
        """Forgets how the device stood where the meter says nothing; in the executor's thread."""
        if self.sampler.status().reading is None:
            self._tenancy.device = DeviceState()

    def _take(self, reading: Reading) -> None:
        """Called by the meter's thread; what it says is dealt with between two stages."""
        self._loop.post(partial(self._account_for, reading))

    def _account_for(self, reading: Reading) -> None:
        self._tenancy.energy.sample(reading.time_s, reading.total_w, reading.total_of)
        self._tenancy.device = DeviceState(
            power_w=reading.total_w,
            temperature_c=max(reading.temperatures_c.values(), default=None),
        )

    def _wait_for_idle_baseline(self) -> None:
        ends_s = time.monotonic() + BASELINE_TIMEOUT_S
        while self.sampler.may_read() and time.monotonic() < ends_s:
            if self._loop.call(lambda: self._tenancy.energy.idle_w) is not None:
                return
            time.sleep(BASELINE_POLL_S)
