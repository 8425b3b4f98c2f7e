"""Readings from the service of jetson-stats, as jtop shows them; imported only where chosen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appliance.errors import MeterError
from appliance.power.protocol import Reading
from appliance.power.tegrastats_line import OFF_C

SOCKET = Path("/run/jtop.sock")


class Jtop:
    """Readings at the pace of the service, which serves others too."""

    name = "jtop"

    def __init__(self, *, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._closed = threading.Event()

    def readings(self) -> Iterator[Reading]:
        try:
            import jtop  # noqa: PLC0415 - an optional extra, under a licence of its own
        except ImportError as error:
            raise MeterError(
                "jetson-stats is not installed: pip install 'delen[jetson]'"
            ) from error
        if SOCKET.is_dir():
            raise MeterError(
                f"{SOCKET} is a folder, which Docker makes where the socket is absent: remove it,"
                " start jtop.service, and mount the socket as compose.jtop.yaml does"
            )
        try:
            with jtop.jtop(interval=self._interval_s) as client:
                while not self._closed.is_set():
                    if not client.ok():
                        raise MeterError("the service of jetson-stats fell silent")
                    yield _reading(client.power, client.temperature, self._clock())
        except (jtop.JtopException, OSError, EOFError) as error:
            raise MeterError(f"the service of jetson-stats does not answer: {error}") from error

    def close(self) -> None:
        self._closed.set()


def _reading(power: dict[str, Any], temperature: dict[str, Any], time_s: float) -> Reading:
    try:
        rails_w = {name: rail["power"] / 1000 for name, rail in power["rail"].items()}
        total_of = tuple(rails_w)
        # A rail that carries the whole board is not among the rails, but named by the total.
        if "name" in power["tot"]:
            total_of = (power["tot"]["name"],)
            rails_w[power["tot"]["name"]] = power["tot"]["power"] / 1000
        temperatures_c = {
            name: float(zone["temp"]) for name, zone in temperature.items() if zone["temp"] != OFF_C
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise MeterError(f"the service of jetson-stats tells of no power: {error!r}") from error
    if not rails_w:
        raise MeterError("jetson-stats finds no power sensor on this board")
    return Reading(time_s=time_s, rails_w=rails_w, total_of=total_of, temperatures_c=temperatures_c)
