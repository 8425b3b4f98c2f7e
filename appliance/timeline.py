"""Work with deadlines on a line of time: how long all of it can still be put off."""

from __future__ import annotations

import math

SLOT_S = 0.001
SLOTS = 2**15
OVERDUE_S = 0.1 * SLOT_S * SLOTS
"""How long overdue work is still known to come first."""

HORIZON_S = 0.8 * SLOT_S * SLOTS
"""How far ahead a deadline may lie."""

FEW = 4
"""So many slots are looked at one by one; the tree is asked where there are more."""


class Timeline:
    """Pieces of work by their deadline, in slots of a millisecond on a ring.

    A segment tree over the slots holds for each range how long its work takes, and by when it
    must be begun for each piece of it to be ready in time where the earliest deadline goes first.
    Adding, removing and asking walk one path of the tree, however much work there is; within a
    slot the earliest deadline stands for all, which is careful by less than a millisecond. The
    tree is brought up to date when it is asked, which a light load does not need.
    """

    def __init__(self) -> None:
        self._work_s = [0.0] * (2 * SLOTS)
        self._begin_s = [math.inf] * (2 * SLOTS)
        self._pieces: dict[int, list[tuple[float, float]]] = {}
        self._in_tree: set[int] = set()
        self._changed: set[int] = set()

    def add(self, deadline_s: float, work_s: float) -> None:
        """Puts a piece of work in. Its deadline lies within the horizon."""
        slot = _slot_of(deadline_s)
        self._pieces.setdefault(slot, []).append((deadline_s, work_s))
        self._changed.add(slot)

    def remove(self, deadline_s: float, work_s: float) -> None:
        """Takes out a piece of work that was put in just so."""
        slot = _slot_of(deadline_s)
        pieces = self._pieces[slot]
        pieces.remove((deadline_s, work_s))
        if not pieces:
            del self._pieces[slot]
        if pieces or slot in self._in_tree:
            self._changed.add(slot)
        else:
            self._changed.discard(slot)

    def work_until_s(self, deadline_s: float, now_s: float) -> float:
        """How long the work takes that is due until then."""
        self._update()
        first, last = _oldest_slot(now_s), _slot_of(deadline_s)
        work_s = self._work_up_to(last) - self._work_up_to(first - 1)
        return work_s if first <= last else work_s + self._work_s[1]

    def latest_begin_s(self, now_s: float) -> float:
        """By when the work must be begun at the latest; infinite where there is none."""
        if len(self._pieces) <= FEW:
            return self._latest_begin_of_few_s(now_s)
        self._update()
        # The ring is cut open where its oldest slot is: what lies right of the path to that slot
        # comes first in time, what lies left of it last.
        node = _oldest_slot(now_s) + SLOTS
        work_s, begin_s = self._work_s, self._begin_s
        first_work_s, first_begin_s = work_s[node], begin_s[node]
        last_work_s, last_begin_s = 0.0, math.inf
        while node > 1:
            if node & 1:
                left = node - 1
                last_begin_s = min(begin_s[left], last_begin_s - work_s[left])
                last_work_s += work_s[left]
            else:
                right = node + 1
                first_begin_s = min(first_begin_s, begin_s[right] - first_work_s)
                first_work_s += work_s[right]
            node >>= 1
        return min(first_begin_s, last_begin_s - first_work_s)

    def _latest_begin_of_few_s(self, now_s: float) -> float:
        oldest = _oldest_slot(now_s)
        work_s, begin_s = 0.0, math.inf
        for slot in sorted(self._pieces, key=lambda slot: (slot - oldest) % SLOTS):
            pieces = self._pieces[slot]
            work_s += math.fsum(piece_s for _, piece_s in pieces)
            begin_s = min(begin_s, min(pieces)[0] - work_s)
        return begin_s

    def _update(self) -> None:
        for slot in self._changed:
            self._change(slot)
            if slot in self._pieces:
                self._in_tree.add(slot)
            else:
                self._in_tree.discard(slot)
        self._changed.clear()

    def _work_up_to(self, slot: int) -> float:
        node = slot + SLOTS
        if node < SLOTS:
            return 0.0
        work_s = self._work_s[node]
        while node > 1:
            if node & 1:
                work_s += self._work_s[node - 1]
            node >>= 1
        return work_s

    def _change(self, slot: int) -> None:
        work_s, begin_s = self._work_s, self._begin_s
        node = slot + SLOTS
        pieces = self._pieces.get(slot)
        if pieces is None:
            work_s[node], begin_s[node] = 0.0, math.inf
        else:
            work_s[node] = math.fsum(work for _, work in pieces)
            begin_s[node] = min(deadline for deadline, _ in pieces) - work_s[node]
        node >>= 1
        while node:
            left = 2 * node
            left_work_s = work_s[left]
            work_s[node] = left_work_s + work_s[left + 1]
            begin_s[node] = min(begin_s[left], begin_s[left + 1] - left_work_s)
            node >>= 1


def _oldest_slot(now_s: float) -> int:
    return _slot_of(now_s - OVERDUE_S)


def _slot_of(time_s: float) -> int:
    return int(time_s / SLOT_S) % SLOTS
