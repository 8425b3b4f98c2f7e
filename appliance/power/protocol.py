"""What a meter gives: readings of rails in watts, and which of them make up the total."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

BOARD_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry all that a board takes in. `VIN_SYS_5V0` is none: it is a sibling of others."""

STALL_S = 1.5
"""Without a good reading for so long, a meter that had worked counts as failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a meter saw at one moment, `time_s` in monotonic seconds."""

    time_s: float
    rails_w: Mapping[str, float]
    total_of: tuple[str, ...]
    """The rails whose sum is the total."""
    temperatures_c: Mapping[str, float]

    @property
    def total_w(self) -> float:
        """The power of all that this meter sees, in watts."""
        return sum(self.rails_w[name] for name in self.total_of)


class Meter(Protocol):
    """Somewhere to read power from."""

    @property
    def name(self) -> str:
        """What `DELEN_METER` calls it."""

    def readings(self) -> Iterator[Reading]:
        """Readings as they come, until `close` is called.

        Raises MeterError where the meter cannot be read, dies, stalls or talks nonsense.
        """

    def close(self) -> None:
        """Ends the readings; may be called from another thread, and more than once."""


def total_of(rails_w: Mapping[str, float]) -> tuple[str, ...]:
    """The rails that make up the total: a board's input alone where there is one, else all.

    The sum of all is the module without its carrier board.
    """
    for name in BOARD_INPUTS:
        if name in rails_w:
            return (name,)
    return tuple(rails_w)
