"""The energy counters of Intel's and AMD's processors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from appliance.errors import MeterError
from appliance.power.protocol import Reading
from appliance.power.sysfs import NumberFile, read_number, read_text
from appliance.power.thermal import ThermalZones

WHOLE_PLATFORM = "psys"
BESIDE_PACKAGES = "dram"


class Counter:
    """Microjoules that only grow, until they begin again at `wraps_at_uj`."""

    def __init__(self, name: str, file: NumberFile, wraps_at_uj: int | None) -> None:
        self.name = name
        self._file = file
        self._wraps_at_uj = wraps_at_uj
        self._last_uj = file.read()

    def advance_j(self) -> float | None:
        """The joules since the last time, None where the counter began anew without saying when."""
        now_uj = self._file.read()
        grown_uj = now_uj - self._last_uj
        if grown_uj < 0 and self._wraps_at_uj is not None:
            grown_uj += self._wraps_at_uj
        self._last_uj = now_uj
        return None if grown_uj < 0 else grown_uj * 1e-6


class Domains:
    """The counters of all packages and of what is in and beside them."""

    def __init__(
        self, counters: list[Counter], zones: ThermalZones, clock: Callable[[], float]
    ) -> None:
        self._counters = counters
        self._zones = zones
        self._clock = clock
        self._last_s = clock()
        self._total_of = _total_of([counter.name for counter in counters])

    def read(self) -> Reading | None:
        now_s = self._clock()
        elapsed_s, middle_s = now_s - self._last_s, (now_s + self._last_s) / 2
        if elapsed_s <= 0:
            return None
        self._last_s = now_s
        grown_j = {counter.name: counter.advance_j() for counter in self._counters}
        rails_w = {name: j / elapsed_s for name, j in grown_j.items() if j is not None}
        if len(rails_w) < len(grown_j):
            return None
        # A mean over the time between stands for its middle.
        return Reading(
            time_s=middle_s,
            rails_w=rails_w,
            total_of=self._total_of,
            temperatures_c=self._zones.read_c(),
        )


@contextmanager
def open_rapl(
    sysfs: Path = Path("/sys"), clock: Callable[[], float] = time.monotonic
) -> Iterator[Domains]:
    """Raises MeterError where there are no counters, or this user may not read them."""
    with ExitStack() as files:
        folders = sorted((sysfs / "class/powercap").glob("intel-rapl:*"))
        counters = [_counter(folder, files) for folder in folders]
        if not counters:
            raise MeterError("this processor shows no energy counters in sysfs")
        zones = files.enter_context(closing(ThermalZones(sysfs, clock)))
        yield Domains(counters, zones, clock)


def _counter(folder: Path, files: ExitStack) -> Counter:
    name = read_text(folder / "name")
    if folder.name.count(":") > 1:
        package = folder.with_name(folder.name.rpartition(":")[0])
        name = f"{read_text(package / 'name')}/{name}"
    file = files.enter_context(closing(NumberFile(folder / "energy_uj")))
    range_path = folder / "max_energy_range_uj"
    return Counter(name, file, read_number(range_path) if range_path.exists() else None)


def _total_of(names: list[str]) -> tuple[str, ...]:
    """The platform where it is counted, else the packages and the memory beside them."""
    if WHOLE_PLATFORM in names:
        return (WHOLE_PLATFORM,)
    return tuple(name for name in names if "/" not in name or name.endswith(f"/{BESIDE_PACKAGES}"))
