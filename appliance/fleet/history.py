"""Figures over time, bounded: what is old is merged with its neighbours, and at last forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

SPAN_S = 3600.0
"""How far back a history reaches."""

ROWS = 240
"""How many rows it holds at most. With telemetry every ten seconds half of it is untouched."""

MAX_COLUMNS = 64
_FIRST_ROWS = 16


class History:
    """Rows of named figures, each at a moment in seconds since the epoch, oldest first.

    When it is full, pairs of the older half become one row each: the mean of both, the larger for
    the columns that are `peaks`, or the sum for those that are `sums`. So the last minutes are
    exact and the last hour keeps its shape. A figure that a row lacks is NaN.
    """

    def __init__(
        self,
        *,
        peaks: Collection[str] = (),
        sums: Collection[str] = (),
        rows: int = ROWS,
        span_s: float = SPAN_S,
    ) -> None:
        self._merges = dict.fromkeys(peaks, _larger) | dict.fromkeys(sums, _sum)
        self._limit = rows
        self._span_s = span_s
        self._length = 0
        self._times_s: NDArray[np.float64] = np.empty(min(_FIRST_ROWS, rows), np.float64)
        self._columns: dict[str, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order in which they first came."""
        return tuple(self._columns)

    def append(self, at_s: float, figures: Mapping[str, float | None]) -> None:
        """Takes a row in; columns beyond the first MAX_COLUMNS are left out.

        A row from before the last one, as after a clock was set back, stands at the last one's
        moment.
        """
        if self._length:
            at_s = max(at_s, float(self._times_s[self._length - 1]))
        self._forget_before(at_s - self._span_s)
        if self._length == self._limit:
            self._merge()
        if self._length == len(self._times_s):
            self._grow()
        row = self._length
        self._times_s[row] = at_s
        for name in figures:
            if name not in self._columns and len(self._columns) < MAX_COLUMNS:
                self._columns[name] = np.full(len(self._times_s), np.nan, np.float32)
        for name, column in self._columns.items():
            figure = figures.get(name)
            column[row] = np.nan if figure is None else figure
        self._length += 1

    def times_s(self) -> NDArray[np.float64]:
        """The rows' moments, shape (rows,)."""
        return np.array(self._times_s[: self._length])

    def column(self, name: str) -> NDArray[np.float32]:
        """One column, shape (rows,), NaN where there is no figure."""
        column = self._columns.get(name)
        if column is None:
            return np.full(self._length, np.nan, np.float32)
        return np.array(column[: self._length])

    def since(self, since_s: float, name: str) -> NDArray[np.float32]:
        """The part of a column that is not older than a moment."""
        first = int(np.searchsorted(self._times_s[: self._length], since_s))
        return self.column(name)[first:]

    def _forget_before(self, since_s: float) -> None:
        kept = int(np.searchsorted(self._times_s[: self._length], since_s))
        if kept:
            left = self._length - kept
            self._times_s[:left] = self._times_s[kept : self._length].copy()
            for column in self._columns.values():
                column[:left] = column[kept : self._length].copy()
            self._length = left

    def _merge(self) -> None:
        pairs = max(1, self._length // 4)
        rest = slice(2 * pairs, self._length)
        self._length -= pairs
        for name, column in self._columns.items():
            both = column[: 2 * pairs].reshape(pairs, 2)
            column[:pairs] = self._merges.get(name, _mean)(both)
            column[pairs : self._length] = column[rest].copy()
        self._times_s[:pairs] = self._times_s[1 : 2 * pairs : 2].copy()
        self._times_s[pairs : self._length] = self._times_s[rest].copy()

    def _grow(self) -> None:
        rows = min(2 * len(self._times_s), self._limit)
        self._times_s = np.resize(self._times_s, rows)
        for name, column in self._columns.items():
            grown = np.full(rows, np.nan, np.float32)
            grown[: self._length] = column[: self._length]
            self._columns[name] = grown


def _mean(pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    known = ~np.isnan(pairs)
    count = known.sum(axis=1)
    total = np.where(known, pairs, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _larger(pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.fmax(pairs[:, 0], pairs[:, 1])


def _sum(pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array(np.nansum(pairs, axis=1))
