"""A training as a picture: the loss, and the accuracy of every exit, over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.modelling.run_folder import CURVES, EpochTrace


def draw_curves(epochs: Sequence[EpochTrace], folder: Path) -> None:
    """Writes `curves.png`: validation in full lines, training in thin ones."""
    # Only where a picture is drawn: matplotlib takes a second to load.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    numbers = [epoch.epoch for epoch in epochs]
    losses.plot(numbers, [e.valid_loss for e in epochs], marker=".", label="validation")
    losses.plot(numbers, [e.train_loss for e in epochs], linewidth=0.8, label="training")
    losses.set(xlabel="epoch", ylabel="loss, all exits", ylim=(0, None))
    losses.legend(frameon=False)
    for exit_ in range(len(epochs[0].valid_accuracy)):
        valid = [100 * e.valid_accuracy[exit_] for e in epochs]
        (line,) = accuracies.plot(numbers, valid, marker=".", label=f"exit {exit_}")
        train = [100 * e.train_accuracy[exit_] for e in epochs]
        accuracies.plot(numbers, train, linewidth=0.8, color=line.get_color(), alpha=0.6)
    accuracies.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 101))
    accuracies.legend(frameon=False, title="thin: training", title_fontsize="small")
    for axes in (losses, accuracies):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(folder / CURVES)
