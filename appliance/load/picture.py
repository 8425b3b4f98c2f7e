"""A benchmark as a picture: latencies, the search for the rate, and what tenants got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.load.benchmark import KEPT, Finding, Measured
from appliance.load.scenarios import Scenario


def draw(measured: Sequence[Measured], bounds_s: Mapping[str, float], path: Path) -> None:
    """Writes the picture as PNG. Raises ImportError without matplotlib."""
    # Only where a picture is drawn: matplotlib takes a second to load, and need not be there.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 7), dpi=130, layout="constrained")
    latencies, search, percentiles, worth = figure.subplots(2, 2).flat
    _draw_latencies(latencies, measured, bounds_s)
    _draw_search(search, measured)
    shown = next((m for m in measured if m.scenario is Scenario.SERVER), measured[-1])
    _draw_percentiles(percentiles, shown, bounds_s)
    _draw_worth(worth, shown)
    figure.savefig(path, format="png")


def _draw_latencies(axes: Any, measured: Sequence[Measured], bounds_s: Mapping[str, float]) -> None:
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    for one in measured:
        # Offline, all are scheduled at the start: their latencies say only how long it took.
        if one.scenario is not Scenario.OFFLINE:
            outcomes = one.finding.played.outcomes
            ordered_ms = np.sort([o.latency_s * 1e3 for o in outcomes if o.answered])
            shares = np.arange(1, len(ordered_ms) + 1) / len(ordered_ms) * 100
            axes.plot(ordered_ms, shares, label=one.scenario.value)
    for bound_s in sorted(set(bounds_s.values())):
        axes.axvline(bound_s * 1e3, color="tab:red", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("latency from the scheduled time, ms; dotted: bounds")
    axes.set_ylabel("answers, %")
    axes.set_title("Latency of each sample")
    if axes.lines:
        axes.legend()


def _draw_search(axes: Any, measured: Sequence[Measured]) -> None:
    axes.set_title("Server: what was offered and what came back in time")
    axes.set_xlabel("offered, requests a second")
    axes.set_ylabel("answered within the bound, a second")
    server = next((m for m in measured if m.scenario is Scenario.SERVER), None)
    if server is None:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    tried = (*server.search, server.finding)
    for kept, color, label in (
        (True, "tab:green", f"{KEPT:.0%} in time, for every tenant"),
        (False, "tab:red", "less"),
    ):
        of_kind = [finding for finding in tried if finding.kept is kept]
        places = [(_rate_hz(finding), finding.total.goodput_hz) for finding in of_kind]
        if places:
            axes.scatter(*zip(*places, strict=True), color=color, label=label)
    most_hz = max(map(_rate_hz, tried))
    axes.plot([0, most_hz], [0, most_hz], color="tab:gray", linewidth=0.8, linestyle="--")
    axes.legend()


def _rate_hz(finding: Finding) -> float:
    return finding.played.trial.rate_hz


def _draw_percentiles(axes: Any, shown: Measured, bounds_s: Mapping[str, float]) -> None:
    tenants = shown.finding.tenants
    places = np.arange(len(tenants))
    for number, name in enumerate(("p50", "p90", "p99")):
        values_s = [getattr(figures, f"{name}_s") or 0.0 for figures in tenants.values()]
        axes.bar(places + (number - 1) * 0.27, np.multiply(values_s, 1e3), 0.25, label=name)
    for place, tenant in enumerate(tenants):
        axes.hlines(bounds_s[tenant] * 1e3, place - 0.42, place + 0.42, color="tab:red")
    axes.set_xticks(places, list(tenants))
    axes.set_ylabel("latency, ms; red: bound")
    axes.margins(y=0.25)
    axes.set_title(f"Tenants, {shown.scenario.value} at {_load_of(shown)}")
    axes.legend()


def _load_of(shown: Measured) -> str:
    if shown.scenario is Scenario.SERVER:
        return f"{_rate_hz(shown.finding):.0f} requests/s"
    return f"{shown.finding.played.trial.seconds:g} s"


def _draw_worth(axes: Any, shown: Measured) -> None:
    rows = []
    for tenant, figures in shown.finding.tenants.items():
        rejected = ", ".join(f"{code}: {count}" for code, count in figures.rejected.items())
        rows.append(
            [
                tenant,
                f"{figures.goodput_hz:.1f}",
                f"{figures.kept:.1%}",
                "-" if figures.accuracy is None else f"{figures.accuracy:.1%}",
                "-" if figures.energy_j is None else f"{figures.energy_j * 1e3:.3g}",
                rejected or "0",
            ]
        )
    axes.axis("off")
    axes.set_title("What they got")
    table = axes.table(
        rows,
        colLabels=["tenant", "goodput/s", "in time", "accuracy", "mJ each", "rejected"],
        loc="upper center",
        cellLoc="center",
    )
    table.scale(1.0, 1.6)
