"""`delen serve`: the appliance, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading

import typer

from appliance.modelling.compile import compile_missing
from appliance.serving import serve as run_service
from appliance.settings import read_settings, unknown_variables

_log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    app.command()(serve)


def serve() -> None:
    """Serve until SIGTERM: finish what is in flight, say `stopped`, exit 0.

    Settings come from the environment (DELEN_*), then from delen.yaml in the current folder.
    """
    settings = read_settings()
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(threadName)s %(message)s",
    )
    for sentence in unknown_variables():
        _log.warning(sentence)
    if settings.compile == "auto" and settings.backend in {"auto", "tensorrt"}:
        compile_missing(settings.engines, settings.plans, _log.info)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_service(settings, stop)
