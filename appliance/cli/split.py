"""`delen split`: from trained weights to an engine folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.modelling import imported_with_torch


def register(app: typer.Typer) -> None:
    app.command()(split)


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
    split_run = imported_with_torch("appliance.modelling.split").split
    report = split_run(run, out, max_frames=max_frames)
    exits = len(report.engine.stages)
    print(
        f"{out}: {exits} stages and {report.frames} held-out frames;"
        f" max relative error {report.max_relative_error:.1e}"
    )
