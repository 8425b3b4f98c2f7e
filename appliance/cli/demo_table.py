"""How the demo looks: a table per moment, a line where there is no terminal, a picture."""

from __future__ import annotations

import io
import re

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from appliance.demo.policies import DemoPolicy
from appliance.demo.scene import Scene
from appliance.demo.tally import Tally, TenantTally

WIDTH = 80
BAR_CELLS = 16
PROGRESS_CELLS = 40
EXIT_COLOURS = ("#2a9d6f", "#3d74b8", "#c9821b", "#b3406f", "#7657a8", "#5f6b73")
"""From the first exit on; an engine with more exits begins again."""

WELL_KEPT, MOSTLY_KEPT = 0.99, 0.9
"""From which share of answers within the bound on it is shown in green, and in yellow."""

LEGEND = (
    "gate: as deep as the time allows · meter: the cheapest exit that keeps the floor\n"
    "garden: deeper until it is 95% sure, while the energy lasts · mJ: of one answer\n"
)


def table_of(scene: Scene, now_s: float, duration_s: float) -> RenderableType:
    """The scene at a moment, in seconds since the sensors started; 80 columns are enough."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("tenant, policy in force ▸", width=28, no_wrap=True)
    table.add_column("exits taken", width=BAR_CELLS, no_wrap=True)
    for name, width in (("p50 ms", 6), ("p99 ms", 6), ("kept", 4), ("accuracy", 8), ("mJ", 5)):
        table.add_column(name, justify="right", width=width, no_wrap=True)
    changed = scene.changed_s is not None
    for change in scene.changes:
        tally = scene.tallies[change.tenant]
        table.add_row(
            _tenant(change.tenant, tally), _joules(tally, scene.ran_out_s.get(change.tenant))
        )
        _add_policy(table, change.before, tally, in_force=not changed)
        if changed:
            _add_policy(table, change.after, tally, in_force=True)
        table.add_section()
    return Group(
        _headline(scene),
        _progress(scene, now_s, duration_s),
        table,
        Text(f"\n{LEGEND}joules by {scene.meter}", "dim"),
    )


def line_of(policy: DemoPolicy, tally: TenantTally) -> str:
    """How a tenant fares under the policy in force, in one line."""
    under = tally.version(policy.version)
    return (
        f"{policy.tenant:<6} v{policy.version} {policy.words():<24} {under.answered:5d} answers"
        f"  {_bar(under).plain}"
    )


def picture(table: RenderableType) -> str:
    """What a terminal would show, as SVG that loads nothing from elsewhere."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(table)
    svg = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def _headline(scene: Scene) -> Text:
    return Text.assemble(
        ("Dělen", "bold"),
        f"  one appliance · {scene.engine.name}, {len(scene.engine.stages)} exits"
        f" · {len(scene.changes)} sensors, {scene.rate_hz:.2g} frames/s each",
    )


def _progress(scene: Scene, now_s: float, duration_s: float) -> Text:
    done = round(PROGRESS_CELLS * min(1.0, now_s / duration_s))
    text = Text.assemble(
        ("━" * done, "green"),
        ("━" * (PROGRESS_CELLS - done), "dim"),
        f" {min(now_s, duration_s):3.0f} of {duration_s:.0f} s",
    )
    if scene.changed_s is not None:
        text.append(f" · new policies at {scene.changed_s:.0f} s", "bold yellow")
    return text


def _tenant(name: str, tally: TenantTally) -> Text:
    text = Text.assemble((f"{name:<7}", "bold"), (f"{tally.total.answered}/{tally.sent}", "dim"))
    text.append(" answered", "dim")
    if tally.total.rejected:
        text.append(f", {tally.total.rejected} rejected", "red")
    return text


def _joules(tally: TenantTally, ran_out_s: float | None) -> Text:
    text = Text(f"{tally.total.energy_j:.2f} J", "bold")
    if ran_out_s is not None:
        text.append(f"  out {ran_out_s:.0f} s", "bold red")
    return text


def _add_policy(
    table: Table, policy: DemoPolicy, of_tenant: TenantTally, *, in_force: bool
) -> None:
    tally = of_tenant.version(policy.version)
    mark = "▸" if in_force else " "
    table.add_row(
        Text(f"{mark} v{policy.version} {policy.words()}", "bold yellow" if in_force else "dim"),
        _bar(tally),
        _milli(tally.percentile_s(50)),
        _milli(tally.percentile_s(99)),
        _kept(tally.bound_kept),
        "" if tally.accuracy is None else f"{tally.accuracy:.1%}",
        _milli(tally.energy_each_j),
        style="" if in_force else "dim",
    )


def _bar(tally: Tally) -> Text:
    """The exits in proportion, each cell the number and the colour of its exit."""
    bar = Text()
    for exit_, cells in _cells(tally).items():
        bar.append(
            str(exit_)[-1] * cells, f"bold white on {EXIT_COLOURS[exit_ % len(EXIT_COLOURS)]}"
        )
    return bar


def _cells(tally: Tally) -> dict[int, int]:
    """How many of the bar's cells each exit gets, by the largest remainder."""
    if not tally.answered:
        return {}
    shares = {e: BAR_CELLS * count / tally.answered for e, count in tally.exits.items()}
    cells = {exit_: int(share) for exit_, share in shares.items()}
    by_remainder = sorted(shares, key=lambda exit_: cells[exit_] - shares[exit_])
    for exit_ in by_remainder[: BAR_CELLS - sum(cells.values())]:
        cells[exit_] += 1
    return cells


def _kept(share: float | None) -> Text:
    if share is None:
        return Text()
    colour = "green" if share >= WELL_KEPT else "yellow" if share >= MOSTLY_KEPT else "red"
    return Text(f"{share * 100:.0f}%", colour)


def _milli(value: float | None) -> str:
    """A value in thousandths of its unit, with about three digits."""
    if value is None:
        return ""
    return f"{value * 1e3:.1f}" if value >= 0.01 else f"{value * 1e3:.2f}"
