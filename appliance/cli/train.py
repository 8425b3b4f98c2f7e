"""`delen train`: from a dataset to the weights of a multi-exit network."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.progress import TextColumn

from appliance.cli.modelling import DatasetFolder, imported_with_torch, percentages, progress
from appliance.errors import ModellingError
from appliance.modelling.datasets import DESCRIPTIONS, Dataset, open_dataset
from appliance.modelling.networks import NAMES
from appliance.modelling.run_folder import (
    EpochTrace,
    Evaluation,
    LossName,
    OptimizerName,
    TrainSpec,
)


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(train)


_TOGETHER = (
    "On several GPUs: torchrun --nproc-per-node 4 -m appliance.cli train ..., on each of which a"
    " step takes a batch of its own."
)
_EPILOG = "\n\n".join([*(f"{name}: {text}." for name, text in DESCRIPTIONS.items()), _TOGETHER])


class InputType(str, Enum):
    """What the frames are, where that is to be checked."""

    IMAGE = "image"
    AUDIO = "audio"


def train(
    network: Annotated[
        str,
        typer.Option("--network", "--model", "-m", help=f"{' | '.join(NAMES)} | FILE.py:FUNCTION"),
    ],
    dataset: Annotated[
        str | None, typer.Option(help=f"{' | '.join(DESCRIPTIONS)}, see below")
    ] = None,
    dataset_dir: DatasetFolder = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="run folder (default: runs/NETWORK-DATASET)")
    ] = None,
    epochs: Annotated[int, typer.Option("-n", "--epochs", min=1)] = 50,
    batch_size: Annotated[int, typer.Option("-b", "--batch-size", min=1)] = 32,
    optimizer: Annotated[str, typer.Option(help=" | ".join(get_args(OptimizerName)))] = "sgd",
    learning_rate: Annotated[
        float,
        typer.Option("-l", "--learning-rate", help="the highest one of a one-cycle schedule"),
    ] = 1e-3,
    one_cycle: Annotated[
        bool, typer.Option("--one-cycle", help="let the learning rate rise, then fall")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHT...",
            help="how much the loss of each exit counts, first to last (default: equally)",
        ),
    ] = None,
    more_weights: Annotated[list[str] | None, typer.Argument(metavar="WEIGHT", hidden=True)] = None,
    loss_fn: Annotated[
        str,
        typer.Option(
            help="weighted-sum: each exit's own; residual: of the sum of all exits' logits"
        ),
    ] = "weighted-sum",
    eval_fn: Annotated[
        str | None,
        typer.Option(
            help="independent: an exit answers by its own logits; residual: by the sum of its and"
            " all earlier ones (default: as the loss)"
        ),
    ] = None,
    distillation: Annotated[
        float,
        typer.Option(min=0, max=1, help="how much the earlier exits learn from the last, 0 to 1"),
    ] = 0.0,
    rescale_gradients: Annotated[
        bool, typer.Option("--rescale-gradients", help="give all exits an equal pull on the stages")
    ] = False,
    pretrained: Annotated[
        Path | None,
        typer.Option(help="file or folder of weights for the backbone: .safetensors, .bin, .pth"),
    ] = None,
    augment: Annotated[
        bool, typer.Option("--augment", help="crop, turn and light frames anew in every epoch")
    ] = False,
    input_type: Annotated[
        InputType | None, typer.Option(help="what the frames are; the network knows it too")
    ] = None,
    seed: Annotated[int, typer.Option(help="of all that is left to chance")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="processes that decode frames (default: none, or with a GPU one a core)"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on after the last epoch that was finished")
    ] = False,
) -> None:
    """Train all exits of a network at once.

    Writes OUT/weights.pth (of the epoch that validates best), OUT/train_spec.yaml, OUT/trace.csv
    with the accuracy of every exit in every epoch, and OUT/curves.png. Until all epochs are done
    there is OUT.unfinished, with a checkpoint after every epoch.
    """
    chosen = open_dataset(dataset, dataset_dir)
    if input_type is not None and input_type.value != chosen.kind.value:
        raise ModellingError(f"the dataset holds {chosen.kind.value}, not {input_type.value}")
    loss = _one_of(loss_fn, LossName, "--loss-fn")
    answers = _one_of(
        eval_fn or ("residual" if loss == "residual" else "independent"), Evaluation, "--eval-fn"
    )
    spec = TrainSpec(
        network=_found_from_anywhere(network),
        pretrained=None if pretrained is None else pretrained.resolve(),
        dataset=dataset,
        dataset_dir=None if dataset_dir is None else dataset_dir.resolve(),
        labels=chosen.labels,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=_one_of(optimizer, OptimizerName, "--optimizer"),
        learning_rate=learning_rate,
        one_cycle=one_cycle,
        loss=loss,
        exit_weights=_exit_weights(weights, more_weights),
        distillation=distillation,
        rescale_gradients=rescale_gradients,
        evaluation=answers,
        augment=augment,
        seed=seed,
    )
    place = out or Path("runs") / _run_name(network, dataset, dataset_dir)
    traces = _train(spec, chosen, place, resume=resume, workers=workers)
    if traces:
        best = min(traces, key=lambda trace: trace.valid_loss)
        print(
            f"{place}: epoch {best.epoch} of {epochs} validates best, by exit"
            f" {percentages(best.valid_accuracy)}; {sum(t.duration_s for t in traces):.0f} s"
        )


def _train(
    spec: TrainSpec, dataset: Dataset, out: Path, *, resume: bool, workers: int | None
) -> tuple[EpochTrace, ...]:
    """The traces of all epochs; none in the processes that only help the first one."""
    training = imported_with_torch("appliance.modelling.training.train")
    first = training.is_first_process()
    with progress(TextColumn("{task.fields[accuracy]}"), shown=first) as bars:
        bar = bars.add_task("epoch", accuracy="")

        def report(step: Any) -> None:
            bars.update(
                bar,
                description=f"epoch {step.epoch} of {spec.epochs}",
                completed=step.batch,
                total=step.batches,
                accuracy=percentages(step.train_accuracy),
            )

        traces: tuple[EpochTrace, ...] = training.train(
            spec,
            dataset,
            out,
            report=report,
            resume=resume,
            workers=training.default_workers() if workers is None else workers,
        )
    return traces if first else ()


def _exit_weights(text: str | None, more: list[str] | None) -> tuple[float, ...]:
    """`--weights 0.2 0.3 0.5`, `--weights "0.2 0.3 0.5"` or `0.2,0.3,0.5`; empty: equally.

    All but the first of several words come as arguments, which nothing else is.
    """
    if text is None:
        if more:
            raise typer.BadParameter(f"nothing is called {more[0]!r} here: give options only")
        return ()
    words = [word for part in (text, *(more or ())) for word in part.replace(",", " ").split()]
    try:
        weights = tuple(float(word) for word in words)
    except ValueError as error:
        raise typer.BadParameter(
            f"{' '.join(words)!r} is no list of numbers such as 0.2 0.3 0.5"
        ) from error
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise typer.BadParameter(f"{text!r}: weights are not negative, and not all of them 0")
    return weights


def _one_of(text: str, literal: Any, flag: str) -> Any:
    """One of a literal's words; `weighted_sum` is taken for `weighted-sum`."""
    choices = get_args(literal)
    word = text.replace("_", "-")
    if word not in choices:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(choices)}", param_hint=flag)
    return word


def _found_from_anywhere(network: str) -> str:
    """A network's name; one of the user's own with the whole path, for `delen split`."""
    file, colon, function = network.rpartition(":")
    return f"{Path(file).resolve()}:{function}" if colon else network


def _run_name(network: str, dataset: str | None, dataset_dir: Path | None) -> str:
    """`resnet18-food-101`, or with the folder's name where the dataset has none."""
    what = dataset or (dataset_dir.resolve().name if dataset_dir else "")
    return f"{Path(network.partition('.py:')[0]).name}-{what}"
