"""`delen top`: the fleet at a terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from appliance.connection import BrokerAddress
from appliance.errors import SettingsError
from appliance.picture import Picture
from appliance.settings import read_settings
from appliance.top.printing import follow_json, gather, print_json, print_once
from appliance.watcher import Watcher

PIPED_CELLS = 160
"""How wide tables are that no terminal shows."""


def register(app: typer.Typer) -> None:
    app.command()(top)


def top(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Print the fleet as tables, once, and exit.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a line of JSON whenever something changed, or --once."),
    ] = False,
    within: Annotated[
        float,
        typer.Option(min=0.1, help="How many seconds --once waits at most until all have told."),
    ] = 15.0,
) -> None:
    """Show appliances and tenants at a terminal, live; `?` shows the keys.

    An MQTT client like any other, so it runs on the box or on a desk. The broker is that of the
    appliance's settings: DELEN_MQTT_HOST and so on.
    """
    settings = read_settings()
    broker = BrokerAddress.of(settings)
    # Textual reads standard input and draws on standard error.
    is_terminal = all(one.isatty() for one in (sys.stdin, sys.stdout, sys.stderr))
    if not (once or as_json or is_terminal):
        raise typer.BadParameter("this is no terminal: use --once or --json")
    with Watcher(broker, prefix=settings.topic_prefix) as watcher, suppress(KeyboardInterrupt):
        picture = Picture(watcher, prefix=settings.topic_prefix)
        if once:
            gather(picture, within_s=within)
            if as_json:
                print_json(picture)
            else:
                width = None if sys.stdout.isatty() else PIPED_CELLS
                print_once(picture, Console(highlight=False, width=width))
        elif as_json:
            follow_json(picture)
        else:
            _show(picture, broker)


def _show(picture: Picture, broker: BrokerAddress) -> None:
    try:
        from appliance.top.app import TopApp  # noqa: PLC0415 - it is optional
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"delen top lacks {error.name}: install it with pip install 'delen[top]', or use"
            " --once or --json"
        ) from error
    TopApp(picture, broker=str(broker)).run()
