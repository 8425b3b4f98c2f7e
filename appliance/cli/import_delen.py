"""`delen import-delen`: a folder of Dělen's own becomes an engine folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.engine import Kind
from appliance.errors import ModellingError
from appliance.modelling import import_delen as importing


def register(app: typer.Typer) -> None:
    app.command("import-delen")(import_delen)


def import_delen(
    folder: Annotated[
        Path,
        typer.Argument(
            help="NAME_profile.json, conditions_*.json, and the stages as ONNX in trt/, onnx/,"
            " subnetworks/ or beside them"
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="engine folder (default: engines/NAME)")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="a file of one label a line, or labels with commas between")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="what the frames hold, where it is not seen")
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option(help="whether colour images get ImageNet's normalisation, as Dělen trains"),
    ] = True,
) -> None:
    """Make an engine folder of a folder in the layout of Dělen's own repository.

    Figures and conditions come along. TensorRT plans do not: they run on the board alone that they
    were built on.
    """
    engine = importing.import_delen(
        folder, out, labels=_labels(labels), kind=kind, normalised=normalise
    )
    print(
        f"{engine.folder}: {len(engine.stages)} stages, {engine.kind.value} of {engine.input.shape}"
    )


def _labels(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    if not Path(text).is_file():
        given = text.split(",")
    else:
        try:
            given = Path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ModellingError(f"{text} cannot be read: {error}") from error
    return tuple(label.strip() for label in given if label.strip())
