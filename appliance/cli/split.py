"""`delen split`: from trained weights to an engine folder."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn

from appliance.cli.modelling import imported_with_torch, progress


def register(app: typer.Typer) -> None:
    app.command()(split)


class Granularity(str, Enum):
    """Where a network is cut."""

    EXIT = "exit"
    BLOCK = "block"
    MODEL = "model"


def split(
    run: Annotated[Path, typer.Argument(help="the run folder that `delen train` wrote")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="the engine folder to write (default: engines/ and the run's name)"
        ),
    ] = None,
    granularity: Annotated[
        Granularity,
        typer.Option(
            "--granularity",
            "-g",
            help="exit: an engine; model: an engine with the last exit only; block: the smallest"
            " parts, to be studied, not served",
        ),
    ] = Granularity.EXIT,
    max_frames: Annotated[
        int, typer.Option("--frames", min=0, help="at most so many held-out frames come along")
    ] = 400,
) -> None:
    """Cut a trained network into ONNX files, and check them against torch.

    What is already in OUT is replaced only when the check has passed; what was profiled of an
    engine is lost, so profile the new one.
    """
    split_run = imported_with_torch("appliance.modelling.split").split
    place = out or Path("engines") / run.resolve().name
    with progress(MofNCompleteColumn()) as bars:
        bar = bars.add_task("export")
        report = split_run(
            run,
            place,
            max_frames=max_frames,
            granularity=granularity.value,
            report=lambda done, parts: bars.update(bar, completed=done, total=parts),
        )
    what = "blocks" if granularity is Granularity.BLOCK else "stages"
    print(
        f"{place}: {report.parts} {what} with {report.parameters:,} parameters, and"
        f" {report.frames} held-out frames; max relative error {report.max_relative_error:.1e}"
    )
