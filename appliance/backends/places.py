"""Where each item's features lie on a device, and which copies bring a batch together.

Every stage reads its input from one bench, a row of places at an address that never changes, and
the stage before writes there. A batch that goes on as it is therefore needs no copy. Only where
another batch's output would fall on features that somebody still holds are these moved to a slot
aside, and only a batch that was made up anew is gathered on the bench.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import ReferenceType, ref


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the bench of a stage, or a slot aside where `stage` is None."""

    stage: int | None
    index: int


@dataclass(frozen=True, slots=True)
class Copy:
    """An item's features to be copied on the device. `stage` is the one that will take them."""

    stage: int
    source: Place
    target: Place


class Features:
    """A handle on what one item carries to `stage`; `place` is None once the stage has run.

    It keeps its place for as long as somebody holds it.
    """

    __slots__ = ("__weakref__", "place", "stage")

    def __init__(self, stage: int, place: Place) -> None:
        self.stage = stage
        self.place: Place | None = place


_Occupant = ReferenceType[Features] | None


class Places:
    """Keeps account of the benches, `capacity` places each, and of slots aside, as many as needed.

    `copy` makes a copy, in order after those before it; where it raises, nothing has moved. Not for
    several threads, except that handles may be dropped in any.
    """

    def __init__(self, *, stages: int, capacity: int, copy: Callable[[Copy], None]) -> None:
        self._benches: list[list[_Occupant]] = [[None] * capacity for _ in range(stages)]
        self._slots: list[_Occupant] = []
        self._copy = copy

    def take_in(self) -> Features:
        """A place on the first bench for a frame; what lay there was moved aside."""
        bench = self._benches[0]
        free = next((index for index, held in enumerate(bench) if _held(held) is None), 0)
        self._clear(0, free)
        return self._settle(0, free)

    def gather(self, stage: int, batch: Sequence[Features]) -> None:
        """Brings a batch, no larger than the bench, to the first places in its order."""
        for index, features in enumerate(batch):
            if features.place != Place(stage, index):
                self._clear(stage, index)
                self._move(features, Place(stage, index))

    def clear(self, stage: int, count: int) -> None:
        """Moves aside the features that lie on the first `count` places of a bench."""
        for index in range(count):
            self._clear(stage, index)

    def use_up(self, batch: Sequence[Features]) -> None:
        """The stage has run: the handles are spent, their places free."""
        for features in batch:
            if features.place is not None:
                self._row(features.place)[features.place.index] = None
                features.place = None

    def hand_on(self, stage: int, count: int) -> list[Features]:
        """Handles on what was written to the first `count` places of a bench."""
        return [self._settle(stage, index) for index in range(count)]

    def _settle(self, stage: int, index: int) -> Features:
        features = Features(stage, Place(stage, index))
        self._benches[stage][index] = ref(features)
        return features

    def _clear(self, stage: int, index: int) -> None:
        features = _held(self._benches[stage][index])
        if features is not None:
            self._move(features, Place(None, self._free_slot()))

    def _free_slot(self) -> int:
        for index, held in enumerate(self._slots):
            if _held(held) is None:
                return index
        self._slots.append(None)
        return len(self._slots) - 1

    def _move(self, features: Features, target: Place) -> None:
        source = features.place
        if source is None:
            raise ValueError("the features were used up by the stage that took them")
        self._copy(Copy(features.stage, source, target))
        self._row(source)[source.index] = None
        self._row(target)[target.index] = ref(features)
        features.place = target

    def _row(self, place: Place) -> list[_Occupant]:
        return self._slots if place.stage is None else self._benches[place.stage]


def _held(occupant: _Occupant) -> Features | None:
    return None if occupant is None else occupant()
