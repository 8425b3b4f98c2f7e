"""`delen serve`: the appliance, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

import typer

from appliance.cli.interruption import signals_do
from appliance.modelling.compile import compile_missing
from appliance.serving import serve as run_service
from appliance.settings import Settings, read_settings, unknown_variables

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
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if settings.compile == "auto" and settings.backend in {"auto", "tensorrt"}:
        _build_plans(settings)
    run_service(settings, stop)


def _build_plans(settings: Settings) -> None:
    """Builds the plans that are missing. Nothing interrupts TensorRT meanwhile: a signal ends all.

    In a container a signal that nobody handles is not even delivered, and what handles it runs in
    this thread, which therefore waits while another one builds.
    """
    builder = threading.Thread(
        target=compile_missing,
        args=(settings.engines, settings.plans, _log.info),
        name="plans",
        daemon=True,
    )
    with signals_do(_end_building):
        builder.start()
        builder.join()


def _end_building(_number: int, _frame: FrameType | None) -> None:
    _log.info("stopped while TensorRT plans were built: the next start builds what is missing")
    os._exit(0)
