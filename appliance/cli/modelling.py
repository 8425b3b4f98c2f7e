"""`delen train`, `split` and `profile`: from a dataset to an engine that can be served."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine
from appliance.errors import ModellingError
from appliance.modelling.datasets import NAMED, ClassFolders, Dataset, open_dataset
from appliance.modelling.networks import NAMES
from appliance.modelling.profile import Profile
from appliance.modelling.profile import profile as measure
from appliance.modelling.run_folder import EpochTrace, TrainSpec

Folder = Annotated[
    Path | None,
    typer.Option(
        "--dataset-dir", help="a folder of frames in sub-folders named by label: LABEL/FRAME"
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.command()(split)
    app.command()(profile)


def train(  # noqa: PLR0913 - a flag each
    out: Annotated[Path, typer.Option(help="the run folder to write")],
    network: Annotated[str, typer.Option("--network", "-m", help=f"{' | '.join(NAMES)}")],
    dataset: Annotated[str | None, typer.Option(help=f"{' | '.join(NAMED)}")] = None,
    dataset_dir: Folder = None,
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
        f" {_percentages(best.valid_accuracy)}; {sum(t.duration_s for t in traces):.0f} s"
    )


def split(
    run: Annotated[Path, typer.Argument(help="the run folder that `delen train` wrote")],
    out: Annotated[Path, typer.Option(help="the engine folder to write, such as engines/digits")],
    max_frames: Annotated[
        int, typer.Option("--frames", min=0, help="at most so many held-out frames come along")
    ] = 400,
) -> None:
    """Cut a trained network into one ONNX file per stage, and check them against torch.

    An engine that is already in OUT is replaced only when the check has passed; what was profiled
    of it is lost, so profile the new one.
    """
    split_run = _imported_with_torch("appliance.modelling.split").split
    report = split_run(run, out, max_frames=max_frames)
    exits = len(report.engine.stages)
    print(
        f"{out}: {exits} stages and {report.frames} held-out frames;"
        f" max relative error {report.max_relative_error:.1e}"
    )


def profile(  # noqa: PLR0913 - a flag each
    engine: Annotated[Path, typer.Argument(help="an engine folder")],
    dataset: Annotated[
        str | None,
        typer.Option(help=f"{' | '.join(NAMED)}; by default the frames in the engine's folder"),
    ] = None,
    dataset_dir: Folder = None,
    batches: Annotated[str, typer.Option(help="batch sizes to time")] = "1,2,4,8",
    runs: Annotated[int, typer.Option(min=2, help="how often each batch size is timed")] = 100,
    threads: Annotated[
        int | None, typer.Option(min=1, help="threads of one stage; as the appliance by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure an engine on this machine, and write what was found into its manifest.

    Accuracy comes from held-out frames; latency is of each stage alone; energy is modelled from
    FLOPs. A dataset with a validation part also gives each exit the temperature that calibrates
    its confidence.
    """
    loaded = manifest.load(engine)
    if dataset is None and dataset_dir is None:
        chosen: Dataset = ClassFolders(engine / "frames")
    else:
        chosen = open_dataset(dataset, dataset_dir)
    with _progress() as progress, OnnxBackend(loaded, threads=threads) as backend:
        bars = {name: progress.add_task(name) for name in ("latency", "accuracy", "calibration")}
        found = measure(
            loaded,
            backend,
            chosen,
            batch_sizes=_batch_sizes(batches),
            runs=runs,
            report=lambda name, done: progress.update(bars[name], completed=100 * done),
        )
    manifest.save(found.engine, engine)
    if as_json:
        print(json.dumps(_findings(found)))
    else:
        _print_profile(found)


def _train(spec: TrainSpec, dataset: Dataset, out: Path) -> tuple[EpochTrace, ...]:
    training = _imported_with_torch("appliance.modelling.train")
    with _progress(TextColumn("{task.fields[accuracy]}")) as progress:
        bar = progress.add_task("epoch", accuracy="")

        def report(step: Any) -> None:
            progress.update(
                bar,
                description=f"epoch {step.epoch} of {spec.epochs}",
                completed=step.batch,
                total=step.batches,
                accuracy=_percentages(step.train_accuracy),
            )

        traces: tuple[EpochTrace, ...] = training.train(spec, dataset, out, report=report)
    return traces


def _imported_with_torch(module: str) -> Any:
    """A module that needs torch, which is not there where an engine only serves."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModellingError(
            f"this needs {error.name}: install it with `pip install 'delen[train]'`"
        ) from error


def _progress(*columns: TextColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _exit_weights(text: str) -> tuple[float, ...]:
    try:
        weights = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 0.2 0.3 0.5") from error
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise typer.BadParameter(f"{text!r}: weights are not negative, and not all of them 0")
    return weights


def _batch_sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(part) for part in text.replace(",", " ").split()}))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of batch sizes such as 1,2,4") from error
    if not sizes or sizes[0] < 1:
        raise typer.BadParameter(f"{text!r}: batch sizes start at 1")
    return sizes


def _percentages(fractions: tuple[float, ...]) -> str:
    return " ".join(f"{fraction:.1%}" for fraction in fractions)


def _findings(found: Profile) -> dict[str, Any]:
    engine = found.engine
    return {
        "engine": engine.name,
        "test_frames": found.test_frames,
        "valid_frames": found.valid_frames,
        "energy_source": engine.energy_source,
        "dominated_exits": list(engine.dominated_exits),
        "exits": [
            {
                "exit": number,
                "accuracy": stage.accuracy,
                "stage_flops": stage.flops,
                "stage_energy_j": stage.energy_j,
                "stage_latency_s": {
                    str(size): {"p50": latency.p50_s, "p95": latency.p95_s}
                    for size, latency in stage.latency.items()
                },
                "temperature": stage.temperature,
                "calibration_error": {
                    "before": found.calibration[number].error_before,
                    "after": found.calibration[number].error_after,
                }
                if found.calibration
                else None,
            }
            for number, stage in enumerate(engine.stages)
        ],
    }


def _print_profile(found: Profile) -> None:
    engine = found.engine
    console = Console(highlight=False)
    console.print(_exit_table(found), _latency_table(engine))
    for exit_ in engine.dominated_exits:
        console.print(f"exit {exit_} is dominated: an earlier one is as accurate and costs less")


def _exit_table(found: Profile) -> Table:
    engine = found.engine
    table = Table(
        "exit",
        "accuracy",
        "MFLOP",
        f"mJ, {engine.energy_source}",
        "temperature",
        "calibration error",
        title=f"{engine.name} on {found.test_frames} held-out frames; MFLOP and mJ of the stage",
    )
    for number, stage in enumerate(engine.stages):
        table.add_row(
            str(number),
            "" if stage.accuracy is None else f"{stage.accuracy:.1%}",
            "" if stage.flops is None else f"{stage.flops / 1e6:.1f}",
            "" if stage.energy_j is None else f"{stage.energy_j * 1e3:.2f}",
            f"{stage.temperature:.2f}",
            _calibration_error(found, number),
        )
    return table


def _calibration_error(found: Profile, exit_: int) -> str:
    if not found.calibration:
        return "no validation frames"
    calibration = found.calibration[exit_]
    return f"{calibration.error_before:.1%} -> {calibration.error_after:.1%}"


def _latency_table(engine: Engine) -> Table:
    sizes = sorted(engine.stages[0].latency)
    columns = ("stage", *(f"batch {size}" for size in sizes))
    table = Table(*columns, title="latency of the stage, p50 / p95 in ms")
    for number, stage in enumerate(engine.stages):
        latencies = (stage.latency[size] for size in sizes)
        cells = (f"{latency.p50_s * 1e3:.2f} / {latency.p95_s * 1e3:.2f}" for latency in latencies)
        table.add_row(str(number), *cells)
    return table
