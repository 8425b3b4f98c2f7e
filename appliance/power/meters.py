"""The meters by their names, and the best of them that works here."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from appliance.errors import MeterError
from appliance.power.ina3221 import open_power_monitors
from appliance.power.jtop import Jtop
from appliance.power.nvml import open_nvml
from appliance.power.polling import PolledMeter
from appliance.power.protocol import Meter, Reading
from appliance.power.rapl import open_rapl
from appliance.power.tegrastats import Tegrastats

AUTO, MODELLED = "auto", "modelled"


@dataclass(frozen=True, kw_only=True)
class MeterOptions:
    """How meters are opened."""

    interval_s: float = 0.1
    tegrastats: str = "tegrastats"
    """The program, with arguments where it needs some."""
    sysfs: Path = Path("/sys")
    clock: Callable[[], float] = time.monotonic


def _tegrastats(options: MeterOptions) -> Meter:
    command = shlex.split(options.tegrastats)
    return Tegrastats(command, interval_s=options.interval_s, clock=options.clock)


def _ina3221(options: MeterOptions) -> Meter:
    sensor = partial(open_power_monitors, options.sysfs, options.clock)
    return PolledMeter("ina3221", sensor, interval_s=options.interval_s, clock=options.clock)


def _jtop(options: MeterOptions) -> Meter:
    return Jtop(interval_s=options.interval_s, clock=options.clock)


def _rapl(options: MeterOptions) -> Meter:
    sensor = partial(open_rapl, options.sysfs, options.clock)
    return PolledMeter("rapl", sensor, interval_s=options.interval_s, clock=options.clock)


def _nvml(options: MeterOptions) -> Meter:
    sensor = partial(open_nvml, options.clock)
    return PolledMeter("nvml", sensor, interval_s=options.interval_s, clock=options.clock)


METERS: Mapping[str, Callable[[MeterOptions], Meter]] = {
    "tegrastats": _tegrastats,
    "ina3221": _ina3221,
    "jtop": _jtop,
    "rapl": _rapl,
    "nvml": _nvml,
}
"""The measuring meters, best first: those of a Jetson see the whole board."""


@dataclass(kw_only=True)
class Search:
    """Looks for a meter that works; `refusals` says why each that was tried does not."""

    name: str
    """One of METERS, or `auto` for the first that works."""
    options: MeterOptions
    refusals: dict[str, str] = field(default_factory=dict)
    meter: Meter | None = None
    """The one that is being read, or tried."""
    closed: bool = False

    def readings(self) -> Generator[Reading, None, None]:
        """The readings of the first meter that gives one, until it fails or `close` is called.

        Raises MeterError where none does, or the one that did does no more.
        """
        for name in METERS if self.name == AUTO else (self.name,):
            self.meter = METERS[name](self.options)
            if self.closed:
                return
            works = False
            try:
                for reading in self.meter.readings():
                    works = True
                    yield reading
            except MeterError as error:
                if works:
                    raise MeterError(f"{name}: {error}") from error
                self.refusals[name] = str(error)
            else:
                return
        raise MeterError("; ".join(f"{name}: {why}" for name, why in self.refusals.items()))

    def close(self) -> None:
        """Ends the readings; may be called from another thread."""
        self.closed = True
        if self.meter is not None:
            self.meter.close()
