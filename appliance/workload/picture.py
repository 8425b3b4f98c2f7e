"""A simulation as a picture: load, exits and latency over time, a column for each tenant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.workload.scenario import Outcome
from appliance.workload.tally import Tally

BINS = 60
"""Into how many slices of time the load is cut."""

TENANTS = 6
"""How many tenants have room beside one another."""

Floats = NDArray[np.float64]


def draw_outcome(outcome: Outcome, path: Path) -> None:
    """Writes a PNG, whole or not at all, of the first tenants. Raises ImportError, OSError.

    The former without matplotlib, the latter where it cannot be written.
    """
    # Only where a picture is drawn: matplotlib takes a second to load, and need not be there.
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = list(outcome.tallies.items())[:TENANTS]
    figure = Figure(figsize=(1.5 + 4.5 * len(drawn), 7), dpi=120, layout="constrained")
    rows = figure.subplots(3, len(drawn), sharex=True, squeeze=False)
    edges = np.linspace(0.0, max(outcome.seconds, 1e-9), BINS + 1)
    scale, unit = _unit(outcome.seconds)
    for (tenant, tally), (load, exits, latency) in zip(drawn, rows.T, strict=True):
        _draw_load(load, tally, edges, scale)
        _draw_exits(exits, tally, edges, scale)
        _draw_latency(latency, tally, edges, scale)
        load.set_title(tenant)
        latency.set_xlabel(f"time, {unit}")
    for axes, label in zip(
        rows[:, 0], ("requests a second", "answers by exit, %", "response time, ms"), strict=True
    ):
        axes.set_ylabel(label)
    for row in rows:
        _explain(row)
    for axes in rows.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_xlim(0.0, edges[-1] / scale)
    partial = path.with_name(f"{path.name}.partial")
    figure.savefig(partial, format="png")
    partial.replace(path)


def _explain(row: NDArray[Any]) -> None:
    """A legend to the right of a row, with what any of its columns shows."""
    shown: dict[str, Any] = {}
    for axes in row:
        handles, labels = axes.get_legend_handles_labels()
        shown.update(zip(labels, handles, strict=True))
    row[-1].legend(
        shown.values(), shown.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
    )


def _unit(seconds: float) -> tuple[float, str]:
    if seconds > 2 * 3600.0:
        return 3600.0, "h"
    return (60.0, "min") if seconds > 2 * 60.0 else (1.0, "s")


def _draw_load(axes: Any, tally: Tally, edges: Floats, scale: float) -> None:
    width_s = edges[1] - edges[0]
    came = np.histogram(tally.arrived_s, edges)[0] / width_s
    answered = np.histogram(tally.answered_at_s, edges)[0] / width_s
    axes.stairs(came, edges / scale, color="tab:red", label="requests")
    axes.stairs(answered, edges / scale, color="tab:blue", fill=True, alpha=0.5, label="answered")
    axes.set_ylim(bottom=0.0)


def _draw_exits(axes: Any, tally: Tally, edges: Floats, scale: float) -> None:
    exits, came_s = np.array(tally.exits), np.array(tally.answered_at_s)
    stages = len(tally.plan.engine.stages)
    counts = np.array([np.histogram(came_s[exits == e], edges)[0] for e in range(stages)])
    shares = 100.0 * counts / np.maximum(counts.sum(axis=0), 1)
    below = np.zeros(len(edges) - 1)
    for exit_, share in enumerate(shares):
        axes.stairs(
            below + share, edges / scale, baseline=below, fill=True, label=f"exit {exit_}",
            color=f"C{exit_}", alpha=0.8,
        )  # fmt: skip
        below = below + share
    axes.set_ylim(0.0, 100.0)


def _draw_latency(axes: Any, tally: Tally, edges: Floats, scale: float) -> None:
    order = np.argsort(tally.answered_at_s)
    came_s = np.array(tally.answered_at_s)[order]
    times_ms = np.array(tally.response_times_s)[order] * 1e3
    slices = np.split(times_ms, np.searchsorted(came_s, edges[1:-1]))
    for percent, color in ((50, "tab:blue"), (95, "tab:orange"), (99, "tab:red")):
        figures = [float(np.percentile(one, percent)) if len(one) else np.nan for one in slices]
        axes.stairs(figures, edges / scale, baseline=None, color=color, label=f"p{percent}")
    bound_s = tally.plan.policy.bounds.response_time
    if bound_s is not None:
        axes.axhline(bound_s * 1e3, color="black", linestyle=":", label="bound")
    axes.set_ylim(bottom=0.0)
