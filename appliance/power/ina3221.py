"""The Jetson's own power sensors, read from the kernel without any program between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.errors import MeterError
from appliance.power.protocol import Reading, total_of
from appliance.power.sysfs import NumberFile, read_text
from appliance.power.tegrastats_line import NOT_CONNECTED
from appliance.power.thermal import ThermalZones

_CHANNELS = (1, 2, 3)
"""Those of an INA3221; its further inputs are voltages over shunts, and their sum."""


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail's power as the product of files, in `scale_w` watts: mV times mA is microwatts."""

    name: str
    factors: tuple[NumberFile, ...]
    scale_w: float

    def read_w(self) -> float:
        """The rail's power. Raises MeterError."""
        product = 1
        for factor in self.factors:
            product *= factor.read()
        return product * self.scale_w

    def close(self) -> None:
        for factor in self.factors:
            factor.close()


class PowerMonitors:
    """All rails of all sensors on this board's buses."""

    def __init__(self, rails: list[Rail], zones: ThermalZones, clock: Callable[[], float]) -> None:
        self._rails = rails
        self._zones = zones
        self._clock = clock
        self._total_of = total_of({rail.name: 0.0 for rail in rails})

    def read(self) -> Reading:
        rails_w = {rail.name: rail.read_w() for rail in self._rails}
        return Reading(
            time_s=self._clock(),
            rails_w=rails_w,
            total_of=self._total_of,
            temperatures_c=self._zones.read_c(),
        )


@contextmanager
def open_power_monitors(
    sysfs: Path = Path("/sys"), clock: Callable[[], float] = time.monotonic
) -> Iterator[PowerMonitors]:
    """Finds the rails by their labels, since numbers move from start to start.

    Raises MeterError where there are none, or none that can be read.
    """
    with ExitStack() as files:
        rails, faults = [], []
        for found in _candidates(sysfs / "bus/i2c/drivers"):
            try:
                rail = found()
                if rail is not None:
                    files.callback(rail.close)
                    rail.read_w()
                    rails.append(rail)
            except MeterError as error:
                faults.append(str(error))
        if not rails:
            raise MeterError(faults[0] if faults else "no power sensor of a Jetson shows in sysfs")
        zones = files.enter_context(closing(ThermalZones(sysfs, clock)))
        yield PowerMonitors(rails, zones, clock)


def _candidates(drivers: Path) -> Iterator[Callable[[], Rail | None]]:
    """What may be rails: each opens one, or says None where nothing is connected."""
    for folder in sorted(drivers.glob("ina3221*/*/hwmon/hwmon*")):
        for channel in _CHANNELS:
            if (folder / f"in{channel}_label").exists():
                yield partial(_hwmon_rail, folder, channel)
    for folder in sorted(drivers.glob("ina3221*/*/iio:device*")):
        for channel in range(len(_CHANNELS)):
            if (folder / f"rail_name_{channel}").exists():
                yield partial(_iio_rail, folder, channel)
    # The carrier board of a Thor measures its input with an INA238.
    for path in sorted(drivers.glob("ina2*/*/hwmon/hwmon*/power1_input")):
        yield partial(_carrier_rail, path)


def _hwmon_rail(folder: Path, channel: int) -> Rail | None:
    name = read_text(folder / f"in{channel}_label")
    if name == NOT_CONNECTED:
        return None
    volts = NumberFile(folder / f"in{channel}_input")
    return Rail(name, (volts, NumberFile(folder / f"curr{channel}_input")), 1e-6)


def _iio_rail(folder: Path, channel: int) -> Rail | None:
    name = read_text(folder / f"rail_name_{channel}")
    if name == NOT_CONNECTED:
        return None
    return Rail(name, (NumberFile(folder / f"in_power{channel}_input"),), 1e-3)


def _carrier_rail(path: Path) -> Rail | None:
    if not read_text(path.with_name("name")).startswith("ina238"):
        return None
    return Rail("VIN", (NumberFile(path),), 1e-6)
