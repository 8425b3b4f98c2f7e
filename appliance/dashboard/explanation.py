"""Rows of the editor's tables: what exits cost, and what happened beside what would have."""

from __future__ import annotations

from typing import Any

from appliance.dashboard.draft import Checked
from appliance.dashboard.replay import Figures
from appliance.fleet import words
from appliance.messages import PolicyState

Row = dict[str, Any]

NOT_PROFILED = "not profiled"


def explanation_rows(checked: Checked, state: PolicyState | None) -> tuple[list[Row], str]:
    """The table of `delen policy explain` for a draft, and what it goes by.

    Where the engine is not on this machine, it is the table that the appliance reports of the
    policy in force.
    """
    if checked.exits:
        rows = [
            _row(
                exit_.exit,
                response_time_ms=_milli(exit_.response_time_s),
                energy_mj=_milli(exit_.energy_j),
                accuracy=exit_.accuracy,
                reachable=exit_.reachable,
                dominated=exit_.dominated,
                broken=exit_.broken,
            )
            for exit_ in checked.exits
        ]
        return (
            rows,
            "Of this draft, by the engine's profile, for a request that waits for no other.",
        )
    why = "" if checked.without_engine is None else f" ({words.short(checked.without_engine)})"
    if state is None or not state.feasibility:
        known = f"Nothing is known of its engine's exits{why}."
        return [], "Told once nothing is wrong with the draft." if checked.problems else known
    rows = [
        _row(
            exit_.exit,
            response_time_ms=exit_.response_time_ms,
            energy_mj=exit_.energy_mj,
            accuracy=exit_.accuracy,
            reachable=exit_.reachable,
            dominated=exit_.dominated,
            broken=exit_.broken,
        )
        for exit_ in state.feasibility
    ]
    if checked.problems:
        return rows, "Of the policy in force, as reported: the draft has to be right first."
    return rows, f"Of the policy in force, as reported: the draft's engine is not here{why}."


def figures_rows(happened: Figures | None, would: Figures) -> list[Row]:
    """What happened beside what would have, a figure a line."""
    exits = sorted({*would.exits, *(happened.exits if happened is not None else ())})
    lines: list[tuple[str, Any]] = [
        ("requests", lambda f: str(f.requests)),
        ("rejected", lambda f: str(f.rejected)),
        ("p50", lambda f: words.number(f.p50_ms, "ms")),
        ("p99", lambda f: words.number(f.p99_ms, "ms")),
        ("bounds kept", lambda f: words.percent(f.bound_kept)),
        ("energy of an answer", lambda f: words.energy(f.energy_each_j)),
        *((f"exit {exit_}", lambda f, e=exit_: _share(f, e)) for exit_ in exits),
    ]
    return [
        {
            "key": what,
            "what": what,
            "happened": words.NOTHING if happened is None else said(happened),
            "would": said(would),
        }
        for what, said in lines
    ]


def _share(figures: Figures, exit_: int) -> str:
    if not figures.answers:
        return words.NOTHING
    return words.percent(figures.exits.get(exit_, 0) / figures.answers)


def _row(  # noqa: PLR0913 - one exit's figures, by name
    exit_: int,
    *,
    response_time_ms: float | None,
    energy_mj: float | None,
    accuracy: float | None,
    reachable: bool,
    dominated: bool,
    broken: tuple[str, ...],
) -> Row:
    time = NOT_PROFILED if response_time_ms is None else words.number(response_time_ms, "ms")
    energy = NOT_PROFILED if energy_mj is None else words.energy(energy_mj * 1e-3)
    return {
        "key": exit_,
        "exit": str(exit_),
        "time": time,
        "energy": energy,
        "accuracy": NOT_PROFILED if accuracy is None else words.percent(accuracy),
        "reachable": ("yes" if reachable else "no") + (", dominated" if dominated else ""),
        "breaks": words.short(", ".join(broken)) or words.NOTHING,
    }


def _milli(value: float | None) -> float | None:
    return None if value is None else value * 1e3
