"""Time and hardware that a test decides: a clock it moves, a backend that takes its time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from appliance.backends.protocol import run_one_by_one
from appliance.errors import EngineError


class SimulatedClock:
    """Monotonic seconds that pass only when a test says so."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class SimulatedBackend:
    """Stages that take `stage_times_s` on the clock and answer with the logits they are given."""

    name = "simulated"

    def __init__(
        self,
        clock: SimulatedClock,
        *,
        stage_times_s: Sequence[float],
        logits: Sequence[Sequence[float]] | None = None,
        enqueues: bool = False,
    ) -> None:
        self.enqueues = enqueues
        self.spans: list[tuple[int, int]] = []
        self.stage_times_s = list(stage_times_s)
        self.logits = [list(row) for row in logits or [[0.0, 1.0]] * len(stage_times_s)]
        self.ran: list[int] = []
        self.fails_at: int | None = None
        self.failure: Exception = EngineError("the stage failed")
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def feed(self, tensor: NDArray[Any]) -> object:
        return tensor

    def run_through(
        self, first: int, last: int, batch: Sequence[object]
    ) -> tuple[NDArray[np.float32], Sequence[object]]:
        self.spans.append((first, last))
        return run_one_by_one(self, first, last, batch)

    def run(
        self, stage: int, batch: Sequence[object]
    ) -> tuple[NDArray[np.float32], Sequence[object]]:
        if stage == self.fails_at:
            raise self.failure
        self.ran.append(stage)
        self._clock.advance(self.stage_times_s[stage])
        logits = np.array([self.logits[stage]] * len(batch), np.float32)
        return logits, list(batch)


class BlockedBackend:
    """Stages that take no time, but for one that runs until it is released."""

    name = "blocked"
    enqueues = False

    def __init__(self, blocked_stage: int) -> None:
        self._blocked_stage = blocked_stage
        self._blocked = threading.Event()
        self._released = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._released.set()

    def is_blocked(self) -> bool:
        return self._blocked.is_set() and not self._released.is_set()

    def feed(self, tensor: NDArray[Any]) -> object:
        return tensor

    def run_through(
        self, first: int, last: int, batch: Sequence[object]
    ) -> tuple[NDArray[np.float32], Sequence[object]]:
        return run_one_by_one(self, first, last, batch)

    def run(
        self, stage: int, batch: Sequence[object]
    ) -> tuple[NDArray[np.float32], Sequence[object]]:
        if stage == self._blocked_stage:
            self._blocked.set()
            self._released.wait(30)
        return np.zeros((len(batch), 2), np.float32), list(batch)
