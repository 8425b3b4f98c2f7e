"""`delen compile`: builds an engine's TensorRT plans on the machine where it will serve."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance import manifest
from appliance.cli.modelling import batch_sizes
from appliance.engine import Precision
from appliance.modelling.compile import Compiled, Order, compile_engine
from appliance.quantities import Dimension, QuantityError, parse_quantity

LEAST_WORKSPACE_BYTES = 2**20


def register(app: typer.Typer) -> None:
    app.command("compile")(compile_)


def compile_(
    engine: Annotated[Path, typer.Argument(help="an engine folder with ONNX stages")],
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="the smallest type that TensorRT may choose; as before by default, else fp16."
            " From TensorRT 11 on the ONNX file decides, and fp32 is the only choice"
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="the largest batch of each optimisation profile, such as 1,8; as before by"
            " default, else 1 and the largest that was profiled"
        ),
    ] = None,
    workspace: Annotated[str, typer.Option(help="memory that kernels may use")] = "256MiB",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="how far an exit may be off, as a fraction of its largest logit; 0.005 for fp32,"
            " 0.02 for fp16, 0.1 for int8 by default",
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="frames to check and to calibrate int8 with; by default `frames` in the engine"
            " folder",
        ),
    ] = None,
    plans: Annotated[
        Path | None,
        typer.Option(
            envvar="DELEN_PLANS",
            file_okay=False,
            help="where the plans of all engines are kept; by default beside the ONNX stages",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Build TensorRT plans of an engine's stages, for this machine alone.

    Takes minutes. Every exit is compared with ONNX Runtime; plans that are off by more than the
    tolerance are not taken into use. What they were built for is written into engine.yaml, or
    beside the plans where these lie apart.
    """
    order = Order(
        precision=precision,
        batches=None if batch is None else batch_sizes(batch),
        workspace_bytes=_workspace_bytes(workspace),
        tolerance=tolerance,
        frames=frames,
        plans=plans,
    )
    progress = Console(stderr=True, highlight=False)
    compiled = compile_engine(manifest.load(engine), order, progress.print)
    if as_json:
        print(json.dumps(_findings(compiled)))
    else:
        _print(compiled)


def _workspace_bytes(text: str) -> int:
    try:
        size = int(parse_quantity(text, Dimension.SIZE))
    except QuantityError as error:
        raise typer.BadParameter(str(error)) from error
    # Whoever gives a number alone means another unit than bytes.
    if size < LEAST_WORKSPACE_BYTES:
        raise typer.BadParameter(
            f"{text!r}: the workspace is 1MiB or more; give it a unit, as 256MiB"
        )
    return size


def _findings(compiled: Compiled) -> dict[str, Any]:
    return {
        "engine": compiled.engine.name,
        "build": asdict(compiled.build),
        "tolerance": compiled.tolerance,
        "frames": compiled.frames,
        "exits": [asdict(error) for error in compiled.errors],
    }


def _print(compiled: Compiled) -> None:
    table = Table("exit", "error", "same class")
    for number, found in enumerate(compiled.errors):
        table.add_row(str(number), f"{found.error:.3%}", f"{found.agreement:.1%}")
    build = compiled.build
    Console(highlight=False).print(table)
    print(
        f"{compiled.engine.folder}: {build.precision.value} plans of TensorRT {build.tensorrt} for"
        f" {build.device}, compared with ONNX Runtime on {compiled.frames} frames;"
        f" an exit may be off by {compiled.tolerance:.2%}"
    )
