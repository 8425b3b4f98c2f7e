"""What a profile found, as tables, as JSON, and as a policy to start from."""

from __future__ import annotations

import math
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from appliance.engine import Engine, Stage
from appliance.modelling.profiling.profile import FEW_FRAMES, Profile, Suggestion


def findings(found: Profile, suggestion: Suggestion | None) -> dict[str, Any]:
    """All figures in SI units and fractions."""
    engine = found.engine
    return {
        "engine": engine.name,
        "test_frames": found.test_frames,
        "valid_frames": found.valid_frames,
        "energy_source": engine.energy_source,
        "meter": found.energy
        and {
            "name": found.energy.meter,
            "total_of": list(found.energy.total_of),
            "idle_w": found.energy.idle_w,
        },
        "dominated_exits": list(engine.dominated_exits),
        "exits": [
            {
                **_exit_findings(number, stage),
                "test_accuracy": found.test_accuracy(number),
            }
            for number, stage in enumerate(engine.stages)
        ],
        "thresholds": [
            {
                "threshold": row.threshold,
                "exit_shares": list(row.exit_shares),
                "accuracy": row.accuracy,
                "latency_s": row.latency_s,
            }
            for row in engine.thresholds
        ],
        "suggestion": None if suggestion is None else _suggestion_findings(suggestion),
    }


def _exit_findings(number: int, stage: Stage) -> dict[str, Any]:
    error = stage.calibration_error
    return {
        "exit": number,
        "accuracy": stage.accuracy,
        "stage_flops": stage.flops,
        "stage_parameters": stage.parameters,
        "stage_energy_j": stage.energy_j,
        "stage_latency_s": {
            str(size): {"p50": latency.p50_s, "p95": latency.p95_s}
            for size, latency in stage.latency.items()
        },
        "temperature": stage.temperature,
        "calibration_error": error and {"before": error.before, "after": error.after},
    }


def _suggestion_findings(suggestion: Suggestion) -> dict[str, Any]:
    return {
        "goal": suggestion.goal,
        "thresholds": [t if math.isfinite(t) else None for t in suggestion.found.thresholds],
        "validation_accuracy": suggestion.found.accuracy,
        "accuracy": suggestion.tested.accuracy,
        "final_accuracy": suggestion.final_accuracy,
        "exit_shares": list(suggestion.tested.exit_shares),
        "latency_s": suggestion.tested.latency_s,
        "final_latency_s": suggestion.final_latency_s,
        "latency_cut": suggestion.latency_cut,
    }


def print_profile(found: Profile, console: Console) -> None:
    engine = found.engine
    console.print(_exit_table(found))
    console.print(
        f"parameters, FLOP and energy ({engine.energy_source}) are of the stage alone;"
        " ECE: expected calibration error",
        style="dim",
    )
    if found.held_out:
        exits = range(len(engine.stages))
        tested = (f"{found.test_accuracy(exit_):.1%}" for exit_ in exits)
        console.print(
            f"on {found.test_frames} test frames the exits are right in {' '.join(tested)}"
        )
    if found.energy is not None:
        rails, idle_w = " + ".join(found.energy.total_of), found.energy.idle_w
        console.print(
            f"energy is what {found.energy.meter} saw of {rails} above {idle_w:.2f} W when idle"
        )
    console.print(_latency_table(engine), _threshold_table(engine))
    for exit_ in engine.dominated_exits:
        console.print(f"exit {exit_} is dominated: an earlier one is as accurate and costs less")
    if not found.valid_frames:
        console.print("no validation frames: the temperatures are as they were")
    if not found.test_frames:
        console.print("no test frames: what the validation frames gave was judged by them too")


def print_suggestion(suggestion: Suggestion, found: Profile, console: Console) -> None:
    """What the thresholds come to on frames that they were not found by."""
    tested = suggestion.tested
    shares = " ".join(f"{share:.0%}" for share in tested.exit_shares)
    console.print(
        f"{suggestion.goal}: mean latency {tested.latency_s * 1e3:.2f} instead of"
        f" {suggestion.final_latency_s * 1e3:.2f} ms ({suggestion.latency_cut:.0%} less), accuracy"
        f" {tested.accuracy:.1%} instead of {suggestion.final_accuracy:.1%} on the test frames"
        f" ({suggestion.found.accuracy:.1%} on those it was found by); shares by exit {shares}"
    )
    finding = found.validated.frames if found.held_out else found.tested.frames // 2
    if finding < FEW_FRAMES:
        console.print(f"found by {finding} frames only: the accuracy may be off by percents")


def policy_of(suggestion: Suggestion, engine: Engine) -> str:
    """The part of a policy that puts a suggestion in force, as YAML."""
    conditions = [
        _condition(threshold, exit_)
        for exit_, threshold in enumerate((*suggestion.found.thresholds, 0.0))
    ]
    document = {"engine": engine.name, "exit_when": conditions}
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _condition(threshold: float, exit_: int) -> str:
    """By `expected_accuracy`, which is what a policy calls the calibrated confidence."""
    if threshold == 0.0:
        return f"exit >= {exit_}"
    if math.isinf(threshold):
        return f"exit > {exit_}"
    return f"expected_accuracy >= {threshold:g}"


def _exit_table(found: Profile) -> Table:
    engine = found.engine
    table = Table(
        "exit",
        "accuracy",
        "parameters",
        "MFLOP",
        "mJ",
        "temperature",
        "ECE",
        title=f"{engine.name} on {found.validated.frames} {found.judging_part} frames",
    )
    for number, stage in enumerate(engine.stages):
        error = stage.calibration_error
        table.add_row(
            str(number),
            "" if stage.accuracy is None else f"{stage.accuracy:.1%}",
            "" if stage.parameters is None else f"{stage.parameters:,}",
            "" if stage.flops is None else f"{stage.flops / 1e6:.1f}",
            "" if stage.energy_j is None else f"{stage.energy_j * 1e3:.2f}",
            f"{stage.temperature:.2f}",
            "" if error is None else f"{error.before:.1%} -> {error.after:.1%}",
        )
    return table


def _latency_table(engine: Engine) -> Table:
    sizes = sorted(engine.stages[0].latency)
    columns = ("stage", *(f"batch {size}" for size in sizes))
    table = Table(*columns, title="latency of the stage, p50 / p95 in ms")
    for number, stage in enumerate(engine.stages):
        latencies = (stage.latency[size] for size in sizes)
        cells = (f"{latency.p50_s * 1e3:.2f} / {latency.p95_s * 1e3:.2f}" for latency in latencies)
        table.add_row(str(number), *cells)
    return table


def _threshold_table(engine: Engine) -> Table:
    exits = (f"exit {number}" for number in range(len(engine.stages)))
    columns = ("confidence", *exits, "accuracy", "mean ms")
    table = Table(*columns, title="leaving at the first exit of this calibrated confidence")
    for row in engine.thresholds:
        shares = (f"{share:.1%}" for share in row.exit_shares)
        figures = (f"{row.accuracy:.1%}", f"{row.latency_s * 1e3:.2f}")
        table.add_row(f"{row.threshold:.2f}", *shares, *figures)
    return table
