"""What overload does to bounds and accuracy, beside other disciplines and the fluid limit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from appliance.backends.onnx import OnnxBackend
from benchmarks.live import play_live, profiled, resnet50_on_disk, stage_times_s
from benchmarks.loads import (
    BOUNDS_S,
    STAGES_S,
    Totals,
    as_delen,
    bounded_plan,
    fluid_limit,
    looking_ahead,
    noisy_stages,
    play_fifo,
    play_ours,
    poisson,
)
from benchmarks.report import Finding, report, tell

LOADS = (0.5, 1.0, 2.0, 3.0, 4.0)
"""In what the device can carry to the last exit."""

SECONDS, SEEDS = 200.0, (1, 2, 3)
LIVE_LOADS, LIVE_SECONDS = (1.0, 2.0, 4.0), 25.0
IN_BOUND, LIVE_IN_BOUND, REJECTED, OF_FLUID = 0.995, 0.99, 0.01, 0.94

BOUNDS = {f"t{number}": bound_s for number, bound_s in enumerate(BOUNDS_S)}


def measure() -> Finding:
    simulated = {f"{load:g}": _simulated(load) for load in LOADS}
    live = _live()
    rows = [row["ours"] for row in simulated.values()]
    worst = {
        "in_bound": min(row["in_bound"] for row in rows),
        "rejected": max(row["rejected"] for row in rows),
        "of_fluid_limit": min(row["of_fluid_limit"] for row in rows),
        "in_bound_live": min(row["in_bound"] for row in live.values()),
    }
    met = (
        worst["in_bound"] >= IN_BOUND
        and worst["rejected"] < REJECTED
        and worst["of_fluid_limit"] >= OF_FLUID
        and worst["in_bound_live"] >= LIVE_IN_BOUND
    )
    return Finding(
        name="overload",
        figure=round(100 * worst["in_bound"], 2),
        unit="% of all requests within their bound, at the worst load",
        goal=f">= {IN_BOUND:.1%} simulated, {LIVE_IN_BOUND:.0%} live; < {REJECTED:.0%} rejected;"
        f" accuracy >= {OF_FLUID:.0%} of the fluid limit",
        met=met,
        measured={"worst": worst, "simulated": simulated, "live": live},
    )


def _rates(load: float, stages_s: Sequence[float]) -> dict[str, float]:
    return dict.fromkeys(BOUNDS, load / sum(stages_s) / len(BOUNDS))


def _simulated(load: float) -> dict[str, Any]:
    fluid = fluid_limit(sum(STAGES_S) / load)
    ours, delen, ahead = [], [], []
    for seed in SEEDS:
        tell(f"overload: {load:g} times what full depth can carry, seed {seed}")
        arrivals = list(poisson(_rates(load, STAGES_S), SECONDS, seed))
        ours.append(Totals.of(play_ours(BOUNDS, arrivals, noisy_stages(seed))))
        delen.append(Totals.of(play_fifo(BOUNDS, arrivals, noisy_stages(seed), as_delen)))
        ahead.append(Totals.of(play_fifo(BOUNDS, arrivals, noisy_stages(seed), looking_ahead)))
    fixed = []
    arrivals = list(poisson(_rates(load, STAGES_S), SECONDS, SEEDS[0]))
    for last in range(len(STAGES_S)):
        stops = partial(_at_exit, last)
        fixed.append(Totals.of(play_fifo(BOUNDS, arrivals, noisy_stages(SEEDS[0]), stops)))
    keeping = [(row.accuracy, exit_) for exit_, row in enumerate(fixed) if row.in_bound >= 0.99]
    return {
        "ours": _figures(ours, fluid),
        "fifo_as_delen": _figures(delen, fluid),
        "fifo_looking_ahead": _figures(ahead, fluid),
        "best_fixed_exit_that_keeps_99%": max(keeping)[1] if keeping else None,
        "its_accuracy": round(max(keeping)[0], 4) if keeping else None,
        "fluid_limit": round(fluid, 4),
    }


def _at_exit(last: int, exit_: int, _response_time_s: float, _bound_s: float) -> bool:
    return exit_ == last


def _live() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with resnet50_on_disk() as engine, OnnxBackend(engine, threads=1) as backend:
        for load in LIVE_LOADS:
            tell(f"overload: live, {load:g} times, {LIVE_SECONDS:g} s")
            times_s = stage_times_s(engine, backend)
            here = profiled(engine, times_s)
            scale = sum(times_s) / sum(STAGES_S)
            plans = {t: bounded_plan(here, t, bound_s * scale) for t, bound_s in BOUNDS.items()}
            arrivals = list(poisson(_rates(load, times_s), LIVE_SECONDS, 1))
            totals = Totals.of(play_live(here, backend, plans, arrivals))
            fluid = fluid_limit(sum(times_s) / load, times_s)
            stages_ms = [round(time_s * 1e3, 2) for time_s in times_s]
            found[f"{load:g}"] = {**_figures([totals], fluid), "stages_ms": stages_ms}
    return found


def _figures(rows: Sequence[Totals], fluid: float) -> dict[str, float]:
    accuracy = sum(row.accuracy for row in rows) / len(rows)
    return {
        "in_bound": round(sum(row.in_bound for row in rows) / len(rows), 4),
        "rejected": round(sum(row.rejected for row in rows) / len(rows), 4),
        "mean_accuracy": round(accuracy, 4),
        "of_fluid_limit": round(accuracy / fluid, 4),
    }


if __name__ == "__main__":
    report(measure())
