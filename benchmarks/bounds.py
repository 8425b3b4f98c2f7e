"""How often a bound on response time is kept at light load, beside Dělen's own discipline."""

from __future__ import annotations

from typing import Any

from appliance.backends.onnx import OnnxBackend
from benchmarks.live import play_live, play_live_fifo, profiled, resnet50_on_disk, stage_times_s
from benchmarks.loads import STAGES_S, Outcome, bounded_plan
from benchmarks.report import Finding, report, tell

BOUNDS_S = (0.020, 0.040)
"""As in Dělen's own README, on a Jetson Nano; scaled to this machine's stages."""

LOAD = 0.3
REQUESTS = 200
GOAL = 0.99


def measure() -> Finding:
    measured: dict[str, Any] = {}
    with resnet50_on_disk() as engine, OnnxBackend(engine, threads=1) as backend:
        times_s = stage_times_s(engine, backend)
        scale = sum(times_s) / sum(STAGES_S)
        here = profiled(engine, times_s)
        for jetson_bound_s in BOUNDS_S:
            bound_s = jetson_bound_s * scale
            rate_hz = LOAD / sum(times_s)
            # A camera's pace: two requests at the same moment are more than such a bound allows.
            arrivals = [(number / rate_hz, "gate") for number in range(REQUESTS)]
            tell(f"bounds: {bound_s * 1e3:.1f} ms, {len(arrivals)} requests, twice")
            plans = {"gate": bounded_plan(here, "gate", bound_s)}
            ours = play_live(here, backend, plans, arrivals)["gate"]
            theirs = play_live_fifo(here, backend, {"gate": bound_s}, arrivals)["gate"]
            measured[f"{jetson_bound_s * 1e3:g}ms"] = {
                "bound_here_ms": round(bound_s * 1e3, 2),
                "ours": _figures(ours),
                "as_delen": _figures(theirs),
            }
    worst = min(by_bound["ours"]["in_bound"] for by_bound in measured.values())
    return Finding(
        name="bounds",
        figure=round(100 * worst, 2),
        unit="% of the requests within their bound",
        goal=f">= {GOAL:.0%}",
        met=worst >= GOAL,
        measured={
            "stages_ms": [round(time_s * 1e3, 2) for time_s in times_s],
            "load": LOAD,
            "by_bound": measured,
            "network": "ResNet-50, four exits, random weights, one thread",
        },
    )


def _figures(outcome: Outcome) -> dict[str, Any]:
    return {
        "in_bound": round(outcome.in_bound / outcome.requests, 4),
        "rejected": outcome.rejected,
        "p50_ms": round(outcome.percentile_ms(50), 2),
        "p99_ms": round(outcome.percentile_ms(99), 2),
        "mean_accuracy": round(outcome.accuracy() / outcome.requests, 4),
    }


if __name__ == "__main__":
    report(measure())
