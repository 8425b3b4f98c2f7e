"""What a flood of one tenant does to the response times of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.backends.onnx import OnnxBackend
from benchmarks.live import play_live, profiled, resnet50_on_disk, stage_times_s
from benchmarks.loads import (
    STAGES_S,
    Outcome,
    Totals,
    as_delen,
    bounded_plan,
    noisy_stages,
    play_fifo,
    play_ours,
    poisson,
)
from benchmarks.report import Finding, report, tell

TENANTS, BOUND_S = 8, 0.500
LOAD, FLOOD = 0.3, 10.0
"""Of its share: what everybody sends, and what the flooding tenant sends instead."""

SECONDS, LIVE_SECONDS, SEED = 1000.0, 40.0, 1
GROWTH = 0.10

BOUNDS = {f"t{number}": BOUND_S for number in range(TENANTS)}
LOUD = "t0"


def measure() -> Finding:
    tell("isolation: simulated")
    quiet, flood = (list(poisson(r, SECONDS, SEED)) for r in _rates(sum(STAGES_S)))
    ours = [play_ours(BOUNDS, arrivals, noisy_stages(SEED)) for arrivals in (quiet, flood)]
    delen = [
        play_fifo(BOUNDS, arrivals, noisy_stages(SEED), as_delen) for arrivals in (quiet, flood)
    ]
    growth_ms = _growth_ms(*ours)
    limit_ms = _limit_ms(ours[0], max(STAGES_S))
    live = _live()
    return Finding(
        name="isolation",
        figure=round(growth_ms, 2),
        unit="ms more at the others' p99 while one floods at ten times its share",
        goal=f"<= one stage and {GROWTH:.0%}: {limit_ms:.1f} ms here",
        met=growth_ms <= limit_ms and live["growth_ms"] <= live["limit_ms"],
        measured={
            "others_p99_ms": [round(_p99_ms(outcomes), 2) for outcomes in ours],
            "others_p99_ms_as_delen": [round(_p99_ms(outcomes), 2) for outcomes in delen],
            "others_accuracy": [round(_others(outcomes).accuracy, 4) for outcomes in ours],
            "loud_answered_in_bound": round(ours[1][LOUD].in_bound / ours[1][LOUD].requests, 4),
            "live": live,
        },
    )


def _rates(full_depth_s: float) -> tuple[dict[str, float], dict[str, float]]:
    share_hz = 1.0 / full_depth_s / TENANTS
    quiet = dict.fromkeys(BOUNDS, LOAD * share_hz)
    return quiet, {**quiet, LOUD: FLOOD * share_hz}


def _live() -> dict[str, Any]:
    with resnet50_on_disk() as engine, OnnxBackend(engine, threads=1) as backend:
        times_s = stage_times_s(engine, backend)
        here, scale = profiled(engine, times_s), sum(times_s) / sum(STAGES_S)
        plans = {t: bounded_plan(here, t, bound_s * scale) for t, bound_s in BOUNDS.items()}
        outcomes = []
        for rates_hz in _rates(sum(times_s)):
            tell(f"isolation: live, {LIVE_SECONDS:g} s")
            arrivals = list(poisson(rates_hz, LIVE_SECONDS, SEED))
            outcomes.append(play_live(here, backend, plans, arrivals))
    return {
        "others_p99_ms": [round(_p99_ms(outcome), 2) for outcome in outcomes],
        "growth_ms": round(_growth_ms(*outcomes), 2),
        "limit_ms": round(_limit_ms(outcomes[0], max(times_s)), 2),
        "stages_ms": [round(time_s * 1e3, 2) for time_s in times_s],
        "loud_answered_in_bound": round(outcomes[1][LOUD].in_bound / outcomes[1][LOUD].requests, 4),
    }


def _others(outcomes: Mapping[str, Outcome]) -> Totals:
    return Totals.of({tenant: outcomes[tenant] for tenant in outcomes if tenant != LOUD})


def _p99_ms(outcomes: Mapping[str, Outcome]) -> float:
    """Of all the others' requests together: each of them alone has too few for a p99."""
    together = Outcome(bound_s=BOUND_S)
    for tenant, outcome in outcomes.items():
        if tenant != LOUD:
            together.response_times_s += outcome.response_times_s
    return together.percentile_ms(99)


def _growth_ms(quiet: Mapping[str, Outcome], flood: Mapping[str, Outcome]) -> float:
    return _p99_ms(flood) - _p99_ms(quiet)


def _limit_ms(quiet: Mapping[str, Outcome], longest_stage_s: float) -> float:
    return 1e3 * longest_stage_s + GROWTH * _p99_ms(quiet)


if __name__ == "__main__":
    report(measure())
