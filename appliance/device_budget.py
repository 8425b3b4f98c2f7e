"""The device's budget as an operator writes it: `2kJ per 1h`."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.quantities import Dimension, QuantityError, format_quantity, parse_quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceBudget:
    """Joules that all tenants together may spend per period; the idle machine's are not in it."""

    energy_j: float
    per_s: float

    def __str__(self) -> str:
        energy = format_quantity(self.energy_j, Dimension.ENERGY)
        return f"{energy} per {format_quantity(self.per_s, Dimension.TIME)}"

    def exactly(self) -> str:
        """The budget as a text that is read back to the last digit."""
        return f"{self.energy_j!r}J per {self.per_s!r}s"


def parse_device_budget(text: object) -> DeviceBudget:
    """The budget in a text such as `2kJ per 1h`. Raises QuantityError."""
    energy, per, period = str(text).partition(" per ")
    if not per:
        raise QuantityError(f"{text!r} is no budget: write joules per period, as `2kJ per 1h`")
    energy_j = parse_quantity(energy, Dimension.ENERGY)
    per_s = parse_quantity(period, Dimension.TIME)
    if energy_j <= 0 or per_s <= 0:
        raise QuantityError(f"{text!r}: a budget and its period are more than nothing")
    return DeviceBudget(energy_j=energy_j, per_s=per_s)
