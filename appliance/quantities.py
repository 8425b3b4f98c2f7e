"""Quantities as people write them, `40ms`, `150 mJ`, `90%`, and the SI floats they stand for."""

from __future__ import annotations

import math
import re
from enum import Enum

from appliance.errors import DelenError


class Dimension(Enum):
    """What a quantity measures. The value names its SI unit, the unit of a bare number."""

    TIME = "s"
    ENERGY = "J"
    POWER = "W"
    TEMPERATURE = "C"
    RATE = "/s"
    RATIO = "fraction"
    COMPUTATION = "FLOP"
    SIZE = "bytes"
    BYTE_RATE = "bytes/s"
    COUNT = "count"
    NUMBER = "number"


_UNITS: dict[Dimension, dict[str, float]] = {
    Dimension.TIME: {
        "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0,
        "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0,
    },
    Dimension.ENERGY: {
        "uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6,
        "mWh": 3.6, "Wh": 3600.0, "kWh": 3.6e6,
    },
    Dimension.POWER: {"mW": 1e-3, "W": 1.0, "kW": 1e3},
    Dimension.TEMPERATURE: {"C": 1.0, "°C": 1.0},
    Dimension.RATE: {"/s": 1.0, "Hz": 1.0, "/min": 1 / 60, "/h": 1 / 3600},
    Dimension.RATIO: {"%": 0.01},
    Dimension.COMPUTATION: {
        "FLOP": 1.0, "kFLOP": 1e3, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12,
    },
    Dimension.SIZE: {
        "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
    },
    Dimension.BYTE_RATE: {
        "B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9,
        "KiB/s": 2.0**10, "MiB/s": 2.0**20, "GiB/s": 2.0**30,
        "kB/min": 1e3 / 60, "MB/min": 1e6 / 60, "MB/h": 1e6 / 3600,
    },
    Dimension.COUNT: {},
    Dimension.NUMBER: {},
}  # fmt: skip

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*", re.ASCII)


MAX_CHARACTERS = 64
"""A longer text is no quantity; trying to match one can take an expression for ever."""


class QuantityError(DelenError):
    """A text or number that is no quantity of the dimension asked for."""


def parse_quantity(value: object, dimension: Dimension) -> float:
    """The quantity in SI: seconds, joules, watts, fractions, bytes.

    A bare number is taken to be SI already. A ratio must lie between 0 and 1 (0% and 100%), a
    count must be whole, and nothing may be infinite or NaN. Raises QuantityError.
    """
    number = _number(value, dimension)
    if not math.isfinite(number):
        raise QuantityError(f"{value} is not a finite number")
    if dimension is Dimension.RATIO and not 0.0 <= number <= 1.0:
        raise QuantityError(f"{value} is not a fraction: write 0 to 1, or 0% to 100%")
    if dimension is Dimension.COUNT and number != int(number):
        raise QuantityError(f"{value} is not a whole number")
    return number


def _number(value: object, dimension: Dimension) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if not isinstance(value, str):
        raise QuantityError(f"{value!r} is not a number with a unit such as {example(dimension)}")
    match = _QUANTITY.fullmatch(value) if len(value) <= MAX_CHARACTERS else None
    if match is None:
        raise QuantityError(f"{value!r} is not a number with a unit such as {example(dimension)}")
    digits, unit = match.groups()
    if not unit:
        return float(digits)
    scale = _UNITS[dimension].get(unit)
    if scale is None:
        units = ", ".join(_UNITS[dimension]) or "none"
        raise QuantityError(f"{value!r}: unknown unit {unit!r}; units here: {units}")
    # Divided, because 25000 / 1e6 is 0.025 to the last bit, and 25000 * 1e-6 is not.
    return float(digits) * scale if scale >= 1 else float(digits) / (1 / scale)


def units(dimension: Dimension) -> tuple[str, ...]:
    """The units that a quantity may be written with."""
    return tuple(_UNITS[dimension])


def example(dimension: Dimension) -> str:
    """A quantity as a person may write it."""
    return {
        Dimension.TIME: "40ms",
        Dimension.ENERGY: "150mJ",
        Dimension.POWER: "5W",
        Dimension.TEMPERATURE: "85C",
        Dimension.RATE: "10/s",
        Dimension.RATIO: "90%",
        Dimension.COMPUTATION: "1.5GFLOP",
        Dimension.SIZE: "8MB",
        Dimension.BYTE_RATE: "5MB/s",
        Dimension.COUNT: "3",
        Dimension.NUMBER: "0.5",
    }[dimension]


def format_quantity(value: float, dimension: Dimension) -> str:
    """The quantity in the unit that people would choose: 0.04 s is `40 ms`."""
    if dimension is Dimension.RATIO:
        return f"{value * 100:.4g}%"
    if dimension in (Dimension.COUNT, Dimension.NUMBER):
        return f"{value:.6g}"
    scales = {
        Dimension.TIME: ("h", "min", "s", "ms", "µs"),
        Dimension.ENERGY: ("kJ", "J", "mJ", "µJ"),
        Dimension.POWER: ("kW", "W", "mW"),
        Dimension.TEMPERATURE: ("°C",),
        Dimension.RATE: ("/s",),
        Dimension.COMPUTATION: ("TFLOP", "GFLOP", "MFLOP", "kFLOP", "FLOP"),
        Dimension.SIZE: ("GB", "MB", "kB", "B"),
        Dimension.BYTE_RATE: ("GB/s", "MB/s", "kB/s", "B/s"),
    }[dimension]
    sizes = _UNITS[dimension]
    unit = next((unit for unit in scales if abs(value) >= sizes[unit]), scales[-1])
    return f"{value / sizes[unit]:.4g} {unit}"
