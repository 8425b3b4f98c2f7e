"""Whether budgets are kept and used up, what pace gains, and whether the joules are true."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance import manifest
from appliance.device_budget import DeviceBudget
from benchmarks import metered_minute
from benchmarks.metered_minute import Minute, Share
from benchmarks.report import Finding, report, tell
from benchmarks.simulated_day import HOUR_S, Day, Period, Tenant, recorded

ENGINE = Path("engines/digits")
MOST_OVER, MOST_UNDER = 0.0, -0.05
TRUTH, BALANCE = 0.01, 1e-9

TENANTS = (
    Tenant(name="gate", rate_hz=0.6, busy_s=10.0, budget_j=300.0, per_s=2 * HOUR_S, weight=3.0),
    Tenant(name="meter", rate_hz=0.6, busy_s=10.0, budget_j=120.0, exhausted="reject", weight=3.0),
    Tenant(name="garden", rate_hz=0.6, busy_s=60.0, budget_j=800.0, per_s=6 * HOUR_S, weight=3.0),
    Tenant(name="yard", rate_hz=0.6, busy_s=20.0),
    Tenant(name="shed", rate_hz=0.6, busy_s=20.0),
)
PACED = ("gate", "garden")
"""Those whose mean accuracy is compared with and without pace: all their requests are answered."""

DEVICE_BUDGET = DeviceBudget(energy_j=2250.0, per_s=3 * HOUR_S)

SHARES = (
    Share(tenant="gate", part=0.5),
    Share(tenant="garden", part=0.5, rest=", pace: true"),
    Share(tenant="meter", part=0.5, rest=", exhausted: reject"),
)


def measure() -> Finding:
    tell("budget: a day in simulated time, with pace and without; some minutes")
    with ProcessPoolExecutor(max_workers=2) as pool:
        spent_first, paced = pool.map(_day, (False, True))
    tell("budget: a minute of a real appliance, after two rehearsals")
    with tempfile.TemporaryDirectory() as folder:
        minute = metered_minute.play(manifest.load(ENGINE), SHARES, Path(folder))
    offs = [*_offs(spent_first), *_offs(paced), *(one.off for one in minute.tenants.values())]
    gains = {name: _accuracy(paced, name) - _accuracy(spent_first, name) for name in PACED}
    energy_off = minute.integrated_j / minute.true_j - 1.0
    imbalance = max(spent_first["imbalance"], paced["imbalance"])
    return Finding(
        name="budget",
        figure=round(100 * max(offs, key=abs), 2),
        unit="% off a budget at worst, in a day and in a minute",
        goal="+0/-5 %; pace more accurate; joules within 1 % of the truth; accounts within 1e-9",
        met=(
            all(MOST_UNDER <= off <= MOST_OVER for off in offs)
            and all(gain > 0.0 for gain in gains.values())
            and abs(energy_off) <= TRUTH
            and imbalance <= BALANCE
        ),
        measured={
            "day_spent_first": spent_first,
            "day_paced": paced,
            "accuracy_gained_by_pace": {name: round(gain, 4) for name, gain in gains.items()},
            "minute": _of_minute(minute),
            "minute_integrated_off_truth_percent": round(100 * energy_off, 3),
        },
    )


def _day(pace: bool) -> dict[str, Any]:  # noqa: FBT001 - what a pool maps has one argument
    """A day's findings; in a process of its own."""
    day = Day(recorded(manifest.load(ENGINE)), TENANTS, device=DEVICE_BUDGET, pace=pace)
    day.play()
    return {
        "requests": sum(one.answered + one.rejected for one in day.outcomes.values()),
        "accuracy": {name: round(one.accuracy, 4) for name, one in day.outcomes.items()},
        "rejected": {name: one.rejected for name, one in day.outcomes.items()},
        "exits": {name: one.exits for name, one in day.outcomes.items()},
        "off_budget_percent": {
            name: _percent([one for one in periods if one.had_enough_work])
            for name, periods in day.periods.items()
        },
        "off_budget_percent_without_enough_work": {
            name: _percent([one for one in periods if not one.had_enough_work])
            for name, periods in day.periods.items()
        },
        "imbalance": day.worst_imbalance,
    }


def _percent(periods: list[Period]) -> list[float]:
    return [round(100 * period.off, 2) for period in periods]


def _offs(day: dict[str, Any]) -> list[float]:
    """How far spending was from budgets; too little counts only where there was enough work."""
    with_work, without = day["off_budget_percent"], day["off_budget_percent_without_enough_work"]
    too_much = [off for offs in without.values() for off in offs if off > 0.0]
    return [off / 100 for offs in (*with_work.values(), too_much) for off in offs]


def _accuracy(day: dict[str, Any], name: str) -> float:
    return float(day["accuracy"][name])


def _of_minute(minute: Minute) -> dict[str, Any]:
    return {
        name: {
            "off_budget_percent": round(100 * one.off, 2),
            **{key: round(value, 3) for key, value in asdict(one).items()},
        }
        for name, one in minute.tenants.items()
    }


if __name__ == "__main__":
    report(measure())
