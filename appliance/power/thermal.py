"""Temperatures, as the kernel's thermal zones tell them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from appliance.errors import MeterError
from appliance.power.sysfs import NumberFile, read_text

REFRESH_S = 1.0
"""Temperatures move slowly, and reading them costs more than reading power."""


class ThermalZones:
    """Reads each zone about once a second; those that cannot be read now are left out."""

    def __init__(self, sysfs: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._zones: dict[str, NumberFile] = {}
        self._last_c: Mapping[str, float] = {}
        self._due_s = float("-inf")
        for folder in sorted((sysfs / "class/thermal").glob("thermal_zone*")):
            try:
                name = read_text(folder / "type").removesuffix("-thermal")
                zone = NumberFile(folder / "temp")
            except MeterError:
                continue  # a zone of which this user, or this kernel, tells nothing
            self._zones.setdefault(name, zone)

    def read_c(self) -> Mapping[str, float]:
        """Degrees Celsius by zone, at most a second old."""
        now_s = self._clock()
        if now_s >= self._due_s:
            self._due_s = now_s + REFRESH_S
            self._last_c = dict(self._readable())
        return self._last_c

    def _readable(self) -> list[tuple[str, float]]:
        found = []
        for name, zone in self._zones.items():
            try:
                found.append((name, zone.read() / 1000))
            except MeterError:
                continue  # a sensor that is switched off with what it watches
        return found

    def close(self) -> None:
        for zone in self._zones.values():
            zone.close()
