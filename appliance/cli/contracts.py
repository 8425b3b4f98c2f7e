"""`delen contracts`: the JSON Schemas and the AsyncAPI document, for editors and generators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.contracts.files import files
from appliance.errors import DelenError


def register(app: typer.Typer) -> None:
    app.command()(contracts)


def contracts(
    folder: Annotated[Path, typer.Argument(help="where to write them", file_okay=False)],
) -> None:
    """Write asyncapi.yaml and schemas/*.json, which say what the topics and documents hold."""
    for name, text in files().items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DelenError(f"{path} cannot be written: {error.strerror}") from error
        print(path)
