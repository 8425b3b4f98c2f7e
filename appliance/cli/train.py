"""`delen train`: from a dataset to the weights of a multi-exit network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import TextColumn

from appliance.cli.modelling import DatasetFolder, imported_with_torch, percentages, progress
from appliance.modelling.datasets import NAMED, Dataset, open_dataset
from appliance.modelling.networks import NAMES
from appliance.modelling.run_folder import EpochTrace, TrainSpec


def register(app: typer.Typer) -> None:
    app.command()(train)


def train(  # noqa: PLR0913 - a flag each
    out: Annotated[Path, typer.Option(help="the run folder to write")],
    network: Annotated[str, typer.Option("--network", "-m", help=f"{' | '.join(NAMES)}")],
    dataset: Annotated[str | None, typer.Option(help=f"{' | '.join(NAMED)}")] = None,
    dataset_dir: DatasetFolder = None,
    epochs: Annotated[int, typer.Option("-n", "--epochs", min=1)] = 14,
    batch_size: Annotated[int, typer.Option("-b", "--batch-size", min=2)] = 32,
    weights: Annotated[
        str, typer.Option(help="how much the loss of each exit counts, first to last")
    ] = "0.2 0.2 0.1 0.5",
    learning_rate: Annotated[
        float, typer.Option("-l", "--learning-rate", help="the highest of the one-cycle schedule")
    ] = 4e-3,
    seed: Annotated[int, typer.Option(help="for the first weights and the order of examples")] = 0,
) -> None:
    """Train all exits of a network at once, by the weighted sum of their losses.

    Writes OUT/weights.pth (of the epoch that validates best), OUT/train_spec.yaml, and
    OUT/trace.csv with the accuracy of every exit in every epoch.
    """
    chosen = open_dataset(dataset, dataset_dir)
    spec = TrainSpec(
        network=network,
        dataset=dataset,
        dataset_dir=dataset_dir,
        labels=chosen.labels,
        epochs=epochs,
        batch_size=batch_size,
        exit_weights=_exit_weights(weights),
        learning_rate=learning_rate,
        seed=seed,
    )
    traces = _train(spec, chosen, out)
    best = min(traces, key=lambda trace: trace.valid_loss)
    print(
        f"{out}: epoch {best.epoch} of {epochs} validates best, by exit"
        f" {percentages(best.valid_accuracy)}; {sum(t.duration_s for t in traces):.0f} s"
    )


def _train(spec: TrainSpec, dataset: Dataset, out: Path) -> tuple[EpochTrace, ...]:
    training = imported_with_torch("appliance.modelling.train")
    with progress(TextColumn("{task.fields[accuracy]}")) as bars:
        bar = bars.add_task("epoch", accuracy="")

        def report(step: Any) -> None:
            bars.update(
                bar,
                description=f"epoch {step.epoch} of {spec.epochs}",
                completed=step.batch,
                total=step.batches,
                accuracy=percentages(step.train_accuracy),
            )

        traces: tuple[EpochTrace, ...] = training.train(spec, dataset, out, report=report)
    return traces


def _exit_weights(text: str) -> tuple[float, ...]:
    try:
        weights = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 0.2 0.3 0.5") from error
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise typer.BadParameter(f"{text!r}: weights are not negative, and not all of them 0")
    return weights
