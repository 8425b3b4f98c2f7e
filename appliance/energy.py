"""Power samples to joules: what each stage, each tenant and the idle machine have spent."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

IDLE, UNATTRIBUTED = "$idle", "$unattributed"
"""Accounts of the ledger that are no tenant's; no tenant's name may begin with a `$`."""

IDLE_SLICES = 300
"""How many of the last slices without work make the idle baseline: half a minute at 10 Hz."""

FEWEST_IDLE_SLICES = 10
"""From how many of them on the baseline is known: from a second at 10 Hz."""

CALIBRATION_TIME_S = 10.0
"""How much working time the ratio of measured to modelled energy looks back on."""

FEWEST_SLICES = 5
"""From how many slices on the ratio is trusted."""

MEASURED_SHARE = 0.8
"""From which share on that the meter saw, a request's energy counts as measured."""


class EnergySource(str, Enum):
    """How a figure was come by."""

    MEASURED = "measured"
    """The meter saw most of it."""
    CALIBRATED = "calibrated"
    """The engine's profile, scaled by what the meter has lately measured beside it."""
    MODELLED = "modelled"
    """The engine's profile as it is."""


@dataclass(kw_only=True, slots=True, eq=False)
class StageRun:
    """One run of one stage for one task, and what it has been charged. Times are monotonic.

    `modelled_j` is None where the engine's profile tells of no energy, `tenant` where the
    appliance worked for itself.
    """

    tenant: str | None
    engine: str
    modelled_j: float | None
    started_s: float
    ended_s: float
    begins: bool = False
    """Whether a request begins with it: what that costs beside its stages is charged to it."""
    settled: float = 0.0
    """The fraction of it that is charged for good."""
    measured: float = 0.0
    """The fraction of it that is charged by what the meter saw."""
    settled_j: float = 0.0
    estimated_j: float = 0.0
    """What the whole of it was thought to cost when it had just run."""

    def share_between(self, start_s: float, end_s: float) -> float:
        """The fraction of the run that lies between two moments."""
        duration_s = self.ended_s - self.started_s
        if duration_s <= 0.0:
            return 1.0 if start_s <= self.started_s < end_s else 0.0
        overlap_s = min(self.ended_s, end_s) - max(self.started_s, start_s)
        return max(0.0, overlap_s) / duration_s


@dataclass(kw_only=True, slots=True)
class Spent:
    """Joules of one account, by how they were come by."""

    measured_j: float = 0.0
    modelled_j: float = 0.0


@dataclass(kw_only=True, slots=True)
class _Sums:
    """Sums over the recent past, older ones counting less and less."""

    measured_j: float = 0.0
    modelled_j: float = 0.0
    requests: float = 0.0
    slices: int = 0

    def take(
        self, measured_j: float, modelled_j: float, requests: float, *, slice_s: float
    ) -> None:
        keep = math.exp(-slice_s / CALIBRATION_TIME_S)
        self.measured_j = self.measured_j * keep + measured_j
        self.modelled_j = self.modelled_j * keep + modelled_j
        self.requests = self.requests * keep + requests
        self.slices += 1

    def ratio(self) -> float | None:
        if self.slices < FEWEST_SLICES or self.modelled_j <= 0.0:
            return None
        return self.measured_j / self.modelled_j


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a stage costs here: its profiled energy times `ratio`, a request's first one more."""

    ratio: float
    request_j: float = 0.0
    """What a request takes beside its stages: to be received, decoded and answered."""

    def of(self, modelled_j: float, *, begins: bool) -> float:
        return modelled_j * self.ratio + (self.request_j if begins else 0.0)


AS_PROFILED = Cost(ratio=1.0)


@dataclass(kw_only=True, slots=True)
class _Calibration:
    """What was measured beside one engine's profile, in service and in exercise without requests.

    Stages alone are seen in exercise. What requests take beyond that is a cost of each, whichever
    exit answers it: were it spread over stages, first exits would be thought too cheap.
    """

    exercise: _Sums = field(default_factory=_Sums)
    service: _Sums = field(default_factory=_Sums)

    def cost(self) -> Cost | None:
        """None before enough was seen."""
        alone, served = self.exercise.ratio(), self.service.ratio()
        if alone is None or served is None or self.service.requests <= 0.0:
            ratio = served if served is not None else alone
            return None if ratio is None else Cost(ratio=ratio)
        beyond_j = self.service.measured_j - alone * self.service.modelled_j
        if beyond_j <= 0.0:
            return Cost(ratio=served)
        return Cost(ratio=alone, request_j=beyond_j / self.service.requests)


@dataclass(frozen=True, slots=True)
class _Sample:
    time_s: float
    total_w: float
    total_of: tuple[str, ...]


@dataclass(kw_only=True)
class Energy:
    """Owns the ledgers. Samples and runs are told to it in one thread; it reads no clock.

    The power between two samples is integrated by the trapezoidal rule into a slice. What lies
    above the idle baseline in it is split among the runs that it overlaps, by their profiled
    energy; where there are none it is unattributed. So always, over all accounts, the measured
    joules add up to `integrated_j`. Runs that no slice overlaps are charged what their profile
    says.
    """

    max_gap_s: float = 0.5
    """Samples further apart than this have nothing to say of the time between."""
    integrated_j: float = 0.0
    """All that the meter saw, since the start."""
    spent: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    """By account, since the start."""
    _last: _Sample | None = None
    _horizon_s: float = -math.inf
    _open: list[StageRun] = field(default_factory=list)
    _tenants_j: float = 0.0
    _pending_j: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _unwritten: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    _idle_w: dict[tuple[str, ...], deque[float]] = field(default_factory=dict)
    _calibrations: defaultdict[str, _Calibration] = field(
        default_factory=lambda: defaultdict(_Calibration)
    )

    def ran(self, run: StageRun) -> None:
        """Takes in a run that has ended."""
        run.estimated_j = self.cost(run.engine).of(run.modelled_j or 0.0, begins=run.begins)
        self._pending(run, run.estimated_j)
        if self._last is None and not self._open and run.started_s >= self._horizon_s:
            # Where no meter is read, as most of the time in a simulation, nothing waits for one.
            self._charge_modelled(run, 1.0)
            return
        self._open.append(run)
        if self._last is None:
            self._settle_modelled(math.inf)
        elif run.started_s < self._horizon_s:
            self._charge_modelled(run, run.share_between(-math.inf, self._horizon_s))

    def sample(self, time_s: float, total_w: float, total_of: tuple[str, ...]) -> None:
        """Takes in the power at a moment, in watts; `total_of` names the rails that it adds up."""
        before, now = self._last, _Sample(time_s, max(0.0, total_w), total_of)
        if before is not None and time_s <= before.time_s:
            return
        self._last = now
        if before is None or before.total_of != total_of or time_s - before.time_s > self.max_gap_s:
            self._settle_modelled(time_s)
            return
        start_s = max(before.time_s, self._horizon_s)
        if start_s < time_s:
            self._settle_measured(start_s, now, _energy_j(before, now, start_s))

    def tick(self, now_s: float) -> None:
        """Charges what no meter will have seen any more."""
        if self._last is not None and now_s - self._last.time_s > self.max_gap_s:
            self._settle_modelled(self._last.time_s + self.max_gap_s)
            self._last = None
        if self._last is None:
            self._settle_modelled(math.inf)

    def cost(self, engine: str) -> Cost:
        """What stages of an engine cost now, as far as it was measured."""
        return self._cost(engine) or AS_PROFILED

    def lacks_calibration(self, engine: str) -> bool:
        """Whether a meter that knows the idle machine has not seen enough of an engine yet."""
        return self.idle_w is not None and self._calibrations[engine].cost() is None

    def of(self, runs: Iterable[StageRun]) -> tuple[float | None, EnergySource]:
        """What some runs of one engine have cost so far in joules, and how that is known.

        None where the profile does not tell and the meter has not seen them.
        """
        total_j = weight = measured = 0.0
        source = EnergySource.MODELLED
        for run in runs:
            if run.modelled_j is None and run.measured < MEASURED_SHARE:
                return None, EnergySource.MODELLED
            rest = 1.0 - run.settled
            cost = self._cost(run.engine)
            if cost is not None:
                source = EnergySource.CALIBRATED
            total_j += run.settled_j
            total_j += rest * (cost or AS_PROFILED).of(run.modelled_j or 0.0, begins=run.begins)
            run_weight = run.modelled_j or run.ended_s - run.started_s
            weight += run_weight
            measured += run.measured * run_weight
        if weight > 0.0 and measured >= MEASURED_SHARE * weight:
            source = EnergySource.MEASURED
        return total_j, source

    def spent_j(self, tenant: str) -> float:
        """All that a tenant's stages have cost since the start, what is still open included."""
        spent = self.spent[tenant]
        return spent.measured_j + spent.modelled_j + self._pending_j[tenant]

    def charged_j(self, tenant: str) -> float:
        """All that a tenant was charged for good since the start; it never falls."""
        spent = self.spent[tenant]
        return spent.measured_j + spent.modelled_j

    @property
    def tenants_j(self) -> float:
        """All that the tenants' stages have cost since the start, what is still open included."""
        return self._tenants_j

    @property
    def idle_w(self) -> float | None:
        """The idle baseline of the meter that is read now, None before it is known."""
        return None if self._last is None else self._baseline_w(self._last.total_of)

    def take_unwritten(self) -> dict[str, Spent]:
        """What was charged since the last time, by account."""
        unwritten, self._unwritten = dict(self._unwritten), defaultdict(Spent)
        return unwritten

    def _cost(self, engine: str) -> Cost | None:
        return None if self._last is None else self._calibrations[engine].cost()

    def _settle_measured(self, start_s: float, end: _Sample, energy_j: float) -> None:
        slice_s = end.time_s - start_s
        shares = self._shares(start_s, end.time_s)
        self.integrated_j += energy_j
        if not shares:
            idle = self._idle_w.setdefault(end.total_of, deque(maxlen=IDLE_SLICES))
            idle.append(energy_j / slice_s)
        baseline_w = self._baseline_w(end.total_of)
        if baseline_w is None and shares:
            # With nothing to tell work from idling by, the profile has to do.
            self._charge(UNATTRIBUTED, measured_j=energy_j)
            for run, share in shares:
                self._charge_modelled(run, share)
        else:
            idle_j = energy_j if baseline_w is None else min(energy_j, baseline_w * slice_s)
            self._charge(IDLE, measured_j=idle_j)
            self._split(shares, energy_j - idle_j, slice_s)
        self._forget_until(end.time_s)

    def _split(self, shares: list[tuple[StageRun, float]], above_j: float, slice_s: float) -> None:
        """Splits what lies above the baseline of a slice among the runs in it."""
        weights = [share * self._weight_j(run) for run, share in shares]
        if not any(weights):
            weights = [share * (run.ended_s - run.started_s) for run, share in shares]
        whole = math.fsum(weights)
        rest_j = above_j
        measured_j: defaultdict[str, float] = defaultdict(float)
        for (run, share), weight in zip(shares, weights, strict=True):
            share_j = above_j * weight / whole if whole > 0.0 else 0.0
            rest_j -= share_j
            self._settle(run, share, share_j, measured=True)
            measured_j[run.engine] += share_j
        # All of it where nothing ran; else what rounding leaves, so that the accounts add up.
        self._charge(UNATTRIBUTED, measured_j=rest_j)
        for engine, joules in measured_j.items():
            self._calibrate(engine, joules, shares, slice_s)

    def _weight_j(self, run: StageRun) -> float:
        """A run's part beside others, in its profile's joules: engines are not told apart here."""
        cost = self.cost(run.engine)
        modelled_j = run.modelled_j or 0.0
        return (
            modelled_j if cost.ratio <= 0.0 else cost.of(modelled_j, begins=run.begins) / cost.ratio
        )

    def _calibrate(
        self, engine: str, measured_j: float, shares: list[tuple[StageRun, float]], slice_s: float
    ) -> None:
        calibration = self._calibrations[engine]
        serves = any(run.tenant is not None for run, _ in shares)
        sums = calibration.service if serves else calibration.exercise
        own = [(run, share) for run, share in shares if run.engine == engine]
        modelled_j = sum(share * (run.modelled_j or 0.0) for run, share in own)
        requests = sum(share for run, share in own if run.begins)
        sums.take(measured_j, modelled_j, requests, slice_s=slice_s)

    def _settle_modelled(self, until_s: float) -> None:
        """Charges what no slice has covered up to a moment by the profiles."""
        for run, share in self._shares(self._horizon_s, until_s):
            self._charge_modelled(run, share)
        if until_s < math.inf:
            self._forget_until(until_s)
        else:
            self._open.clear()

    def _shares(self, start_s: float, end_s: float) -> list[tuple[StageRun, float]]:
        found = ((run, run.share_between(start_s, end_s)) for run in self._open)
        return [(run, min(share, 1.0 - run.settled)) for run, share in found if share > 0.0]

    def _forget_until(self, time_s: float) -> None:
        self._horizon_s = max(self._horizon_s, time_s)
        # A run of no length at the very horizon belongs to what comes next.
        self._open = [
            run
            for run in self._open
            if run.ended_s > self._horizon_s or run.started_s == self._horizon_s
        ]

    def _charge_modelled(self, run: StageRun, share: float) -> None:
        self._settle(run, share, share * (run.modelled_j or 0.0), measured=False)

    def _settle(self, run: StageRun, share: float, joules: float, *, measured: bool) -> None:
        run.settled += share
        run.settled_j += joules
        run.measured += share if measured else 0.0
        self._pending(run, -share * run.estimated_j)
        account = UNATTRIBUTED if run.tenant is None else run.tenant
        if measured:
            self._charge(account, measured_j=joules)
        elif run.tenant is not None:
            self._charge(account, modelled_j=joules)

    def _pending(self, run: StageRun, joules: float) -> None:
        if run.tenant is not None:
            self._pending_j[run.tenant] += joules
            self._tenants_j += joules

    def _charge(self, account: str, *, measured_j: float = 0.0, modelled_j: float = 0.0) -> None:
        for spent in (self.spent[account], self._unwritten[account]):
            spent.measured_j += measured_j
            spent.modelled_j += modelled_j
        if account not in (IDLE, UNATTRIBUTED):
            self._tenants_j += measured_j + modelled_j

    def _baseline_w(self, total_of: tuple[str, ...]) -> float | None:
        idle = self._idle_w.get(total_of, ())
        return None if len(idle) < FEWEST_IDLE_SLICES else median(idle)


def _energy_j(before: _Sample, now: _Sample, start_s: float) -> float:
    """The trapezoid from `start_s` to the second sample, its edge found by interpolation."""
    slope_w_per_s = (now.total_w - before.total_w) / (now.time_s - before.time_s)
    start_w = before.total_w + slope_w_per_s * (start_s - before.time_s)
    return (start_w + now.total_w) / 2 * (now.time_s - start_s)
