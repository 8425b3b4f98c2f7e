"""What `delen bench` prints for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from appliance.load.benchmark import Measured
from appliance.load.outcomes import Figures
from appliance.load.report import figure_of
from appliance.load.scenarios import Scenario
from appliance.quantities import Dimension, format_quantity


def print_measured(measured: Sequence[Measured], bounds_s: Mapping[str, float]) -> None:
    """For each scenario its figure in a line, and a table with a row for each tenant."""
    console = Console(highlight=False)
    for one in measured:
        console.print(_line(one), markup=False, soft_wrap=True)
        table = Table(
            "tenant", "p50 ms", "p90 ms", "p99 ms", "in time", "goodput", "right", "mJ", "rejected",
            box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0),
        )  # fmt: skip
        for tenant, figures in one.finding.tenants.items():
            table.add_row(tenant, *_cells(figures))
        console.print(table)
    bounds = ", ".join(
        f"{tenant} {format_quantity(bound_s, Dimension.TIME)}"
        for tenant, bound_s in bounds_s.items()
    )
    console.print(f"in time is within: {bounds}; offline, whenever", markup=False)
    console.print("goodput is answers in time a second; right, answers that are the frame's label")


def _line(measured: Measured) -> str:
    name, value, unit = figure_of(measured)
    scenario, finding = measured.scenario, measured.finding
    given = f"not {finding.played.trial.rate_hz:g} {unit}"
    none = "none found" if measured.search else given
    found = none if value is None else f"{value:.4g} {unit}"
    text = f"{scenario.value}: {name}: {found}"
    if not finding.enough:
        what = "samples" if scenario is Scenario.OFFLINE else "queries"
        count = len(finding.played.outcomes) // scenario.samples_per_query
        text += f"; not to be believed: {count} {what}, MLPerf asks for {scenario.least_queries}"
    elif not finding.valid:
        text += f"; MLPerf would not believe it: {finding.played.verdict.early_stopping}"
    return text


def _cells(figures: Figures) -> tuple[str, ...]:
    rejected = [f"{code}: {count}" for code, count in figures.rejected.items()]
    if figures.unanswered:
        rejected.append(f"no reply: {figures.unanswered}")
    return (
        _milli(figures.p50_s),
        _milli(figures.p90_s),
        _milli(figures.p99_s),
        f"{figures.kept:.1%}",
        f"{figures.goodput_hz:.1f}",
        "-" if figures.accuracy is None else f"{figures.accuracy:.1%}",
        _milli(figures.energy_j),
        ", ".join(rejected) or "0",
    )


def _milli(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.1f}"
