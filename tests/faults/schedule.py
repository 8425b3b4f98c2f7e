"""A schedule of faults, which a seed decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from random import Random


class Kind(str, Enum):
    """What can go wrong, named as the table names it."""

    APPLIANCE_KILLED = "appliance killed"
    APPLIANCE_FROZEN = "appliance frozen"
    BROKER_KILLED = "broker killed"
    BROKER_FROZEN = "broker frozen"
    CUT = "connections cut"
    HALF_OPEN = "connections half-open"
    LATE_ACKS = "acknowledgements late"
    REORDERED_ACKS = "acknowledgements reordered"
    FULL_DISK = "disk full"
    BUSY_DATABASE = "database busy"
    DAMAGED_HEADER = "database header damaged"
    DAMAGED_PAGES = "database pages damaged"
    CLOCK = "clock jumps"
    METER = "meter dies"
    STAGE_RAISES = "stage raises"
    STAGE_HANGS = "stage hangs"
    STAGE_NAN = "stage gives NaN"
    MEMORY = "memory short"


FAULTS_EACH = 2

ALONE = frozenset({Kind.DAMAGED_HEADER, Kind.DAMAGED_PAGES})
"""Faults during which no other begins: after them the log starts anew."""

MILD = (Kind.CUT, Kind.BROKER_KILLED, Kind.METER, Kind.LATE_ACKS, Kind.APPLIANCE_FROZEN)
"""What a soak meets over and over: nothing that ends the appliance or takes its disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong, for so long."""

    kind: Kind
    holds_s: float
    severity: float
    """From 0 to 1; what it means is the kind's own affair."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Two faults at most, one after the other or the second within the first."""

    seed: int
    number: int
    faults: tuple[Fault, ...]
    overlap: bool

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(fault.kind for fault in self.faults)

    def without(self, kinds: Collection[Kind]) -> Schedule:
        """The same where some faults cannot be brought about."""
        left = tuple(fault for fault in self.faults if fault.kind not in kinds)
        return replace(self, faults=left, overlap=self.overlap and len(left) == FAULTS_EACH)

    def __str__(self) -> str:
        joined = " within ".join if self.overlap else ", then ".join
        faults = reversed(self.faults) if self.overlap else self.faults
        return joined(fault.kind.value for fault in faults)


ROUND = len(Kind) // FAULTS_EACH
"""In so many schedules every kind occurs."""


def schedule(seed: int, number: int) -> Schedule:
    """The schedule of that number, the same whenever and wherever it is asked for."""
    turn, place = divmod(number, ROUND)
    kinds = list(Kind)
    Random(f"{seed}/{turn}").shuffle(kinds)
    chosen = kinds[place * FAULTS_EACH : (place + 1) * FAULTS_EACH]
    chance = Random(f"{seed}/{turn}/{place}")
    faults = tuple(
        Fault(kind=kind, holds_s=chance.uniform(0.3, 1.5), severity=chance.random())
        for kind in chosen
    )
    return Schedule(
        seed=seed,
        number=number,
        faults=faults,
        overlap=chance.random() < 0.5 and not ALONE & set(chosen),
    )
