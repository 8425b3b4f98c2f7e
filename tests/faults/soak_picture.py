"""A soak as a picture: memory, files and threads, latency, the log, and when faults struck."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.faults.soak import Soak

BIN_S = 10.0


def draw(soak: Soak, path: Path) -> None:
    """Writes the picture as PNG. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - it takes a second to load

    figure = Figure(figsize=(11, 7), dpi=130, layout="constrained")
    memory, counts, latency, log = figure.subplots(2, 2).flat
    minutes = np.array([one.at_s for one in soak.samples]) / 60
    memory.plot(minutes, [one.resident_bytes / 1e6 for one in soak.samples])
    memory.set_ylabel("resident memory, MB")
    memory.set_title("Memory; grey: warm-up")
    counts.plot(minutes, [one.files for one in soak.samples], label="files open")
    counts.plot(minutes, [one.threads for one in soak.samples], label="threads")
    counts.set_title("Files and threads")
    counts.legend()
    _draw_latency(latency, soak)
    log.plot(minutes, [one.database_bytes / 1e6 for one in soak.samples])
    log.set_ylabel("database and write-ahead log, MB")
    log.set_title(f"Log; dotted: {len(soak.faults)} faults")
    for at_s, _ in soak.faults:
        log.axvline(at_s / 60, color="tab:red", linestyle=":", linewidth=0.7)
    for axes in (memory, counts, latency, log):
        axes.axvspan(0, soak.warm_up_s / 60, color="tab:gray", alpha=0.2)
        axes.set_xlabel("minutes")
        if axes is not latency:
            axes.set_ylim(bottom=0)
    figure.savefig(path, format="png")


def _draw_latency(axes: Any, soak: Soak) -> None:
    at_s = np.array([one.at_s for one in soak.answers])
    took_ms = np.array([one.took_s for one in soak.answers]) * 1e3
    bins = np.floor(at_s / BIN_S)
    edges = np.unique(bins)
    for percentile in (50, 99):
        values = [np.percentile(took_ms[bins == edge], percentile) for edge in edges]
        axes.plot((edges + 0.5) * BIN_S / 60, values, label=f"p{percentile}")
    axes.set_yscale("log")
    axes.set_ylabel("from sending to hearing, ms")
    axes.set_title(f"Latency, every {BIN_S:g} s")
    axes.legend()
