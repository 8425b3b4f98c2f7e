"""How long an engine's stages take here and now, by stage and batch size."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from statistics import median

from appliance.engine import Engine, Latency

WINDOW = 64
QUANTILE = 0.95
MARGIN = 1.1
"""What is added for the way between the stages: the decision, and the thread that was not woken."""

RECENT = 7
"""How many runs tell of the machine's pace: the median of so few passes by three outliers."""

CHANGE = 1.15
"""By how much the pace of the last runs may leave the window's before the window is forgotten."""

SLOWEST_LEARNING = 0.02
"""How far a run moves the reference of its stage once that is well known."""

WORTHWHILE = 0.9
"""A batch pays where an item in it takes less than this part of its time alone."""

_MOST_OFF = 0.5


class StageTimes:
    """Estimates in seconds that start from the profile and follow what is measured.

    Every stage and batch size has a reference, and all of them share the machine's pace, the
    measured time over the reference: a change of the device's clock shows in whichever stage runs
    first, and holds for those that have not run since. The spread of the last runs around the
    reference gives the careful estimate, a high quantile that one slow run leaves where it is.
    """

    def __init__(self, engine: Engine) -> None:
        self._profile = [dict(stage.latency) for stage in engine.stages]
        self._references_s: list[dict[int, float]] = [{} for _ in engine.stages]
        self._seen: list[dict[int, int]] = [{} for _ in engine.stages]
        self._spans_s: dict[tuple[int, int, int], float] = {}
        """The references of stages that ran back to back: the first, the last, the batch size."""
        self._last: deque[float] = deque(maxlen=RECENT)
        self._window: deque[float] = deque()
        self._ordered: list[float] = []
        self.pace = 1.0
        """How many times slower the machine is than the references say."""
        self._alone_s = [self._reference_s(stage, 1) for stage in range(len(engine.stages))]
        self._profiled_spreads = {
            stage: self._spread(stage, 1) for stage in range(len(engine.stages))
        }
        self.careful_s: list[float] = []
        """The careful estimate of each stage for a batch of one."""
        self.typical_s: list[float] = []
        """The median of each stage for a batch of one."""
        self._estimate_alone()
        self.largest_batch = [self._largest_batch(stage) for stage in range(len(engine.stages))]
        """How many items a batch of each stage is worth having, by the profile: 1 for no batch."""

    def careful_batch_s(self, stage: int, size: int) -> float:
        """The careful estimate for a batch of `size`."""
        return self.careful_s[stage] if size == 1 else self._careful_s(stage, size)

    def typical_batch_s(self, stage: int, size: int) -> float:
        """The median for a batch of `size`."""
        return self.typical_s[stage] if size == 1 else self._typical_s(stage, size)

    def observe(self, stage: int, duration_s: float, *, size: int = 1) -> None:
        """Takes in what one run of a stage for a batch of `size` took."""
        reference_s = self._reference_s(stage, size)
        seen = self._seen[stage].get(size, 0) + 1
        self._seen[stage][size] = seen
        if reference_s <= 0.0 or seen == 1:
            reference_s = duration_s / self.pace
        else:
            off = duration_s / (reference_s * self.pace) - 1.0
            learning = max(1.0 / seen, SLOWEST_LEARNING)
            reference_s *= 1.0 + learning * min(_MOST_OFF, max(-_MOST_OFF, off))
        self._references_s[stage][size] = reference_s
        if reference_s > 0.0:
            self._follow(duration_s / reference_s)
        if size == 1:
            self._alone_s[stage] = reference_s
            self._profiled_spreads.pop(stage, None)
        self._estimate_alone()

    def observe_span(self, first: int, last: int, duration_s: float, *, size: int = 1) -> None:
        """Takes in what the stages `first` to `last` took back to back: less than one by one.

        It tells of the machine's pace, and how long they take together, but of none alone.
        """
        key = (first, last, size)
        known_s = self._spans_s.get(key)
        if known_s is None:
            if duration_s > 0.0:
                self._spans_s[key] = duration_s / self.pace
            return
        off = duration_s / (known_s * self.pace) - 1.0
        known_s *= 1.0 + SLOWEST_LEARNING * min(_MOST_OFF, max(-_MOST_OFF, off))
        self._spans_s[key] = known_s
        self._follow(duration_s / known_s)
        self._estimate_alone()

    def parts(self, first: int, last: int, *, size: int = 1) -> list[float]:
        """Which fraction of the time of the stages `first` to `last` each of them takes."""
        typical_s = [self.typical_batch_s(stage, size) for stage in range(first, last + 1)]
        whole_s = sum(typical_s)
        return [s / whole_s if whole_s > 0.0 else 1.0 / len(typical_s) for s in typical_s]

    def _estimate_alone(self) -> None:
        pace, high = self.pace, self._quantile() * MARGIN
        self.typical_s = [reference_s * pace for reference_s in self._alone_s]
        self.careful_s = [reference_s * high for reference_s in self._alone_s]
        for stage, spread in self._profiled_spreads.items():
            self.careful_s[stage] = self._alone_s[stage] * max(spread * pace * MARGIN, high)

    def _follow(self, ratio: float) -> None:
        self._last.append(ratio)
        self._window.append(ratio)
        insort(self._ordered, ratio)
        if len(self._window) > WINDOW:
            del self._ordered[bisect_left(self._ordered, self._window.popleft())]
        if len(self._last) < RECENT:
            self.pace = median(self._last)
            return
        recent, long = sorted(self._last)[RECENT // 2], self._ordered[len(self._ordered) // 2]
        if not long / CHANGE < recent < long * CHANGE:
            since = [r for r in self._last if recent / CHANGE < r < recent * CHANGE]
            self._window, self._ordered = deque(since), sorted(since)
            long = recent
        self.pace = long

    def _careful_s(self, stage: int, size: int) -> float:
        spread = self._spread(stage, size)
        return self._reference_s(stage, size) * max(spread * self.pace, self._quantile()) * MARGIN

    def _spread(self, stage: int, size: int) -> float:
        """The profile's high quantile over its median; 0 once the window tells of such runs."""
        if size in self._seen[stage]:
            return 0.0
        profiled = self._profiled(stage, size)
        return profiled.p95_s / profiled.p50_s if profiled and profiled.p50_s > 0 else 1.0

    def _quantile(self) -> float:
        ordered = self._ordered
        return ordered[int(QUANTILE * len(ordered))] if ordered else self.pace

    def _typical_s(self, stage: int, size: int) -> float:
        return self._reference_s(stage, size) * self.pace

    def _reference_s(self, stage: int, size: int) -> float:
        """What is known of a batch of this size, else of its neighbours, else of the profile."""
        known = self._references_s[stage]
        if size in known:
            return known[size]
        profiled = self._profiled(stage, size)
        alone = self._profiled(stage, 1)
        if profiled is None or alone is None or alone.p50_s <= 0.0:
            return known.get(1, 0.0) * size if size > 1 else 0.0
        return known.get(1, alone.p50_s) * profiled.p50_s / alone.p50_s

    def _profiled(self, stage: int, size: int) -> Latency | None:
        """The profile's latency for the smallest profiled batch that holds `size`."""
        latency = self._profile[stage]
        holding = [profiled for profiled in latency if profiled >= size]
        return latency[min(holding)] if holding else None

    def _largest_batch(self, stage: int) -> int:
        latency = self._profile[stage]
        alone = latency.get(1)
        if alone is None:
            return 1
        paying = [
            size
            for size, profiled in latency.items()
            if profiled.p50_s <= WORTHWHILE * size * alone.p50_s
        ]
        return max(paying, default=1)
