"""`delen contracts`: what is made from the models, for editors, generators and readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.contracts.files import files
from appliance.contracts.tables import with_tables
from appliance.errors import DelenError


def register(app: typer.Typer) -> None:
    app.command()(contracts)


def contracts(
    folder: Annotated[Path, typer.Argument(help="where to write them", file_okay=False)],
) -> None:
    """Write asyncapi.yaml and schemas/*.json, which say what the topics and documents hold.

    Tables of the Markdown pages there that are made from the same models are made anew.
    """
    for name, text in files().items():
        _write(folder / name, text)
    for page in sorted(folder.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if with_tables(text) != text:
            _write(page, with_tables(text))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DelenError(f"{path} cannot be written: {error.strerror}") from error
    print(path)
