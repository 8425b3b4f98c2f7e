"""`delen health`: whether the appliance of this machine is online.

Also `python -m appliance.cli.health`, which loads nothing else and so takes a quarter of the time.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from appliance.errors import SettingsError
from appliance.health import read_health
from appliance.settings import read_settings


def register(app: typer.Typer) -> None:
    app.command()(health)


def health(
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Say whether the appliance is online, and if not, why. Exit code 1 where it is not.

    It reads DELEN_HEALTH_FILE, which `delen serve` writes where it is set.
    """
    path = read_settings().health_file
    if path is None:
        raise SettingsError(
            "DELEN_HEALTH_FILE is not set: name the file that the appliance writes its health to"
        )
    found = read_health(path, time.monotonic())
    print(json.dumps(asdict(found)) if as_json else found.sentence)
    if not found.well:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(health)
