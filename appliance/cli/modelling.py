"""What the commands that make engines share: options, progress, and torch where it is there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from appliance.errors import ModellingError

DatasetFolder = Annotated[
    Path | None,
    typer.Option(
        "--dataset-dir",
        help="where the dataset lies; without --dataset any folder of images or sounds as"
        " LABEL/FRAME, or in parts as train/LABEL/FRAME, valid/..., test/...",
    ),
]


def imported_with_torch(module: str) -> Any:
    """A module that needs torch, which is not there where an engine only serves."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModellingError(
            f"this needs {error.name}: install it with `pip install 'delen[train]'`"
        ) from error


def progress(*columns: ProgressColumn, shown: bool = True) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


def percentages(fractions: tuple[float, ...]) -> str:
    return " ".join(f"{fraction:.1%}" for fraction in fractions)


def batch_sizes(text: str) -> tuple[int, ...]:
    """Batch sizes as they are given to a command, such as `1,2,4`; each once, ascending."""
    try:
        sizes = tuple(sorted({int(part) for part in text.replace(",", " ").split()}))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of batch sizes such as 1,2,4") from error
    if not sizes or sizes[0] < 1:
        raise typer.BadParameter(f"{text!r}: batch sizes start at 1")
    return sizes
