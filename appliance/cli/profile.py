"""`delen profile`: measures an engine where it will serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance import manifest
from appliance.backends.onnx import OnnxBackend
from appliance.cli.modelling import DatasetFolder, progress
from appliance.engine import Engine
from appliance.modelling.datasets import DESCRIPTIONS, Dataset, HeldOutFrames, open_dataset
from appliance.modelling.profile import Profile
from appliance.modelling.profile import profile as measure


def register(app: typer.Typer) -> None:
    app.command()(profile)


def profile(  # noqa: PLR0913 - a flag each
    engine: Annotated[Path, typer.Argument(help="an engine folder")],
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"{' | '.join(DESCRIPTIONS)}; by default the frames in the engine's folder"
        ),
    ] = None,
    dataset_dir: DatasetFolder = None,
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
        chosen: Dataset = HeldOutFrames(engine / "frames")
    else:
        chosen = open_dataset(dataset, dataset_dir)
    with progress() as shown, OnnxBackend(loaded, threads=threads) as backend:
        bars = {name: shown.add_task(name) for name in ("latency", "accuracy", "calibration")}
        found = measure(
            loaded,
            backend,
            chosen,
            batch_sizes=_batch_sizes(batches),
            runs=runs,
            report=lambda name, done: shown.update(bars[name], completed=100 * done),
        )
    manifest.save(found.engine, engine)
    if as_json:
        print(json.dumps(_findings(found)))
    else:
        _print_profile(found)


def _batch_sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(part) for part in text.replace(",", " ").split()}))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of batch sizes such as 1,2,4") from error
    if not sizes or sizes[0] < 1:
        raise typer.BadParameter(f"{text!r}: batch sizes start at 1")
    return sizes


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
