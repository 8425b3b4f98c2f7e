"""The energy counters of NVIDIA's graphics cards, through NVML."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from appliance.errors import MeterError
from appliance.power.protocol import Reading


class Cards:
    """All cards of this machine, each a rail. The processor and its memory are not seen."""

    def __init__(self, nvml: Any, clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._clock = clock
        self._handles = {
            f"GPU{index}": nvml.nvmlDeviceGetHandleByIndex(index)
            for index in range(nvml.nvmlDeviceGetCount())
        }
        if not self._handles:
            raise MeterError("NVML finds no graphics card")
        self._last_s, self._last_mj = clock(), self._counters_mj()

    def read(self) -> Reading | None:
        """Raises MeterError where the driver does."""
        try:
            now_s, now_mj = self._clock(), self._counters_mj()
            temperatures_c = {name: self._celsius(card) for name, card in self._handles.items()}
        except self._nvml.NVMLError as error:
            raise MeterError(f"NVML cannot be read: {error}") from error
        elapsed_s, middle_s = now_s - self._last_s, (now_s + self._last_s) / 2
        grown_mj = {name: now_mj[name] - self._last_mj[name] for name in now_mj}
        self._last_s, self._last_mj = now_s, now_mj
        # A counter goes back where the driver was loaded anew.
        if elapsed_s <= 0 or min(grown_mj.values()) < 0:
            return None
        return Reading(
            time_s=middle_s,
            rails_w={name: mj * 1e-3 / elapsed_s for name, mj in grown_mj.items()},
            total_of=tuple(grown_mj),
            temperatures_c=temperatures_c,
        )

    def _counters_mj(self) -> dict[str, int]:
        return {
            name: self._nvml.nvmlDeviceGetTotalEnergyConsumption(card)
            for name, card in self._handles.items()
        }

    def _celsius(self, card: Any) -> float:
        return float(self._nvml.nvmlDeviceGetTemperature(card, self._nvml.NVML_TEMPERATURE_GPU))


@contextmanager
def open_nvml(clock: Callable[[], float] = time.monotonic) -> Iterator[Cards]:
    """Raises MeterError where there is no driver, or no card that counts its energy."""
    try:
        import pynvml  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise MeterError("nvidia-ml-py is not installed: pip install 'delen[nvml]'") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise MeterError(f"NVML cannot be opened: {error}") from error
    try:
        yield _cards(pynvml, clock)
    finally:
        pynvml.nvmlShutdown()


def _cards(nvml: Any, clock: Callable[[], float]) -> Cards:
    try:
        return Cards(nvml, clock)
    except nvml.NVMLError as error:
        raise MeterError(f"NVML tells of no energy: {error}") from error
