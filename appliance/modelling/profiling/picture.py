"""An engine's profile as a picture: accuracy against latency, of its exits and of leaving early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.modelling.profiling.profile import Profile, Suggestion

PICTURE = "profile.png"


def draw_profile(profile: Profile, suggestion: Suggestion | None, folder: Path) -> None:
    """Writes `profile.png`, whole or not at all. Raises ImportError without matplotlib."""
    # Only where a picture is drawn: matplotlib takes a second to load, and need not be there.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    engine, validated = profile.engine, profile.validated
    axes.plot(
        [row.latency_s * 1e3 for row in engine.thresholds],
        [row.accuracy * 100 for row in engine.thresholds],
        color="tab:blue",
        marker=".",
        label="leaving at one confidence, 0.5 to 0.99",
    )
    latencies_ms = (validated.latency_s * 1e3).tolist()
    accuracies = (validated.right.mean(axis=1) * 100).tolist()
    dominated = engine.dominated_exits
    colors = ["tab:gray" if exit_ in dominated else "black" for exit_ in range(len(accuracies))]
    axes.scatter(latencies_ms, accuracies, c=colors, zorder=3, label="always leaving at one exit")
    for exit_, place in enumerate(zip(latencies_ms, accuracies, strict=True)):
        name = f"exit {exit_}" + (", dominated" if exit_ in dominated else "")
        _label(axes, name, place, colors[exit_])
    if suggestion is not None:
        suggested = validated.leave(suggestion.found.thresholds)
        place = (suggested.latency_s * 1e3, suggested.accuracy * 100)
        axes.scatter(*place, marker="*", s=160, color="tab:red", zorder=4, label="suggested")
    axes.set(
        xlabel="mean latency of a frame's stages, ms",
        ylabel="accuracy, %",
        xlim=(0, 1.12 * max(latencies_ms)),
        title=f"{engine.name} on {validated.frames} {profile.judging_part} frames",
    )
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    partial = folder / f"{PICTURE}.partial"
    figure.savefig(partial, format="png")
    partial.replace(folder / PICTURE)


def _label(axes: Any, text: str, place: tuple[float, float], color: str) -> None:
    axes.annotate(text, place, xytext=(0, 8), textcoords="offset points", ha="center", color=color)
