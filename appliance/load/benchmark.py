"""The benchmark: scenario after scenario, and the search for the server's highest rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from appliance.load.generator import LoadGenerator, Played
from appliance.load.outcomes import Figures, figures_by_tenant, figures_of
from appliance.load.scenarios import Scenario, Trial
from appliance.load.search import highest_rate

QUICK_QUERIES = 40
"""What a quick run issues at least, which is too few to be believed."""

SEARCHING = 0.2
"""How long a trial of the search takes, as a share of a measured run."""

KEPT = Scenario.SERVER.percentile
"""The share of every tenant's requests that must be answered within its bound."""

STEP_DOWN = 0.9
MOST_STEPS = 8
"""Where the rate that was found does not hold for a whole run, lower ones are tried so often."""

HEADROOM = 4.0
"""How much faster than at its warm-up an appliance may turn out to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How long and how much is measured."""

    scenarios: tuple[Scenario, ...]
    seconds: float
    quick: bool
    bounds_s: Mapping[str, float]
    """Each tenant's bound on latency, which the server scenario has to keep."""
    rate_hz: float | None = None
    """The server's rate, where it is given rather than searched for."""

    def queries(self, scenario: Scenario) -> int:
        return QUICK_QUERIES if self.quick else scenario.least_queries


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One run, in numbers."""

    played: Played
    total: Figures
    tenants: Mapping[str, Figures]

    @property
    def kept(self) -> bool:
        """Whether each tenant's bound was kept as often as the scenario asks."""
        return all(figures.kept >= KEPT for figures in self.tenants.values())

    @property
    def valid(self) -> bool:
        """Whether MLPerf would believe it and, for a server, every tenant's bound was kept."""
        asked = self.played.trial.scenario is Scenario.SERVER
        return self.played.verdict.valid and self.enough and (self.kept or not asked)

    @property
    def enough(self) -> bool:
        """Whether there were as many queries as MLPerf asks for."""
        scenario = self.played.trial.scenario
        count = len(self.played.outcomes) // scenario.samples_per_query
        return count >= scenario.least_queries


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A scenario's finding, and the search that led to it."""

    scenario: Scenario
    finding: Finding
    search: tuple[Finding, ...] = ()


class Benchmark:
    """Measures what its plan says. `tell` is called with a sentence on what is under way."""

    def __init__(
        self, plan: Plan, generator: LoadGenerator, *, tell: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._generator = generator
        self._tell = tell

    def measure(self) -> Iterator[Measured]:
        """The plan's scenarios, each as soon as it is measured. Raises LoadError."""
        for scenario in self._plan.scenarios:
            if scenario is Scenario.SERVER:
                yield self._server()
            else:
                self._tell(str(scenario.value))
                yield Measured(scenario=scenario, finding=self._play(scenario))

    def _server(self) -> Measured:
        search: list[Finding] = []

        def keeps(rate_hz: float) -> bool:
            self._tell(f"server: searching, {rate_hz:.4g}/s")
            finding = self._play(
                Scenario.SERVER,
                rate_hz=rate_hz,
                name=f"server-search-{len(search)}",
                share=SEARCHING,
            )
            search.append(finding)
            return finding.kept

        rate_hz = self._plan.rate_hz
        if rate_hz is None:
            pace_hz = self._generator.pace.rate_hz
            found_hz = highest_rate(keeps, start_hz=pace_hz / 2.0)
            rate_hz = found_hz or min(finding.played.trial.rate_hz for finding in search)
        finding = self._whole_server_run(rate_hz)
        return Measured(scenario=Scenario.SERVER, finding=finding, search=tuple(search))

    def _whole_server_run(self, rate_hz: float) -> Finding:
        """A run of full length, at a lower rate where the one that was found does not hold."""
        steps = 0 if self._plan.rate_hz is not None else MOST_STEPS
        for step in range(steps + 1):
            tried_hz = rate_hz * STEP_DOWN**step
            self._tell(f"server: {tried_hz:.4g}/s")
            finding = self._play(Scenario.SERVER, rate_hz=tried_hz)
            if finding.kept:
                break
        return finding

    def _play(
        self,
        scenario: Scenario,
        *,
        rate_hz: float | None = None,
        name: str | None = None,
        share: float = 1.0,
    ) -> Finding:
        trial = Trial(
            scenario=scenario,
            seconds=self._plan.seconds * share,
            queries=max(QUICK_QUERIES, round(self._plan.queries(scenario) * share)),
            bound_s=max(self._plan.bounds_s.values()),
            rate_hz=self._expected_hz(scenario) if rate_hz is None else rate_hz,
            name=name or scenario.value,
        )
        return finding_of(self._generator.play(trial), self._plan.bounds_s)

    def _expected_hz(self, scenario: Scenario) -> float:
        pace = self._generator.pace
        if scenario is Scenario.OFFLINE:
            return pace.rate_hz
        return HEADROOM / pace.latency_s / scenario.samples_per_query


def finding_of(played: Played, bounds_s: Mapping[str, float]) -> Finding:
    """A run in numbers, against the tenants' bounds on latency."""
    outcomes, duration_s = played.outcomes, played.duration_s
    if played.trial.scenario is Scenario.OFFLINE:
        # All are scheduled at the start, so that a latency says only when its turn came.
        bounds_s = dict.fromkeys(bounds_s, math.inf)
    return Finding(
        played=played,
        total=figures_of(outcomes, bounds_s=bounds_s, duration_s=duration_s),
        tenants=figures_by_tenant(outcomes, bounds_s=bounds_s, duration_s=duration_s),
    )
