"""Runs the appliance until it is told to stop, or one of its threads dies."""

from __future__ import annotations

import logging
import os
import threading
import time

from appliance import resident
from appliance.connection import BrokerAddress
from appliance.errors import ServiceError
from appliance.health import EVERY_S, HealthFile, as_of
from appliance.homeassistant.connection import HomeAssistant
from appliance.homeassistant.discovery import Discovery
from appliance.metrics.server import MetricsServer
from appliance.service import Service
from appliance.settings import Settings
from appliance.topics import Topics

_log = logging.getLogger(__name__)

GIVE_BACK_EVERY_S = 10.0
"""How often what a burst of requests took goes back to the machine; it takes a millisecond, and
eight where twelve thousand blocks lie free."""

LAST_WORDS_S = 2.0
"""How long what was turned away at last has to be logged, published and acknowledged."""

HUNG_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""

LEAST_EXPIRY_S = 60
"""Home Assistant is to bear a lost message or two of telemetry."""


def serve(settings: Settings, stop: threading.Event) -> None:
    """Runs the appliance until `stop` is set. Raises DelenError where it cannot start or go on."""
    died: list[str] = []

    def thread_died(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "unknown"
        _log.critical("the thread %s died", name, exc_info=args.exc_value)
        died.append(name)
        stop.set()

    token = settings.metrics_bearer()
    threading.excepthook = thread_died
    resident.keep_little()
    with (
        HealthFile(settings.health_file) as health_file,
        Service(settings, drain=stop.set, hung=_end, turned=health_file.write) as service,
        MetricsServer(
            host=settings.metrics_host,
            port=settings.metrics_port,
            token=token,
            survey=service.survey.take,
            health=lambda: as_of(health_file.latest, time.monotonic()),
        ),
        _home_assistant(settings) as home_assistant,
    ):
        due_s = time.monotonic() + settings.telemetry_interval
        give_back_s = time.monotonic() + GIVE_BACK_EVERY_S
        while not stop.is_set():
            health_file.write(service.health())
            if home_assistant.tick(service.survey.tenants()):
                service.tell()
            if time.monotonic() >= due_s:
                service.tell()
                due_s += settings.telemetry_interval
            if time.monotonic() >= give_back_s:
                resident.give_back()
                give_back_s += GIVE_BACK_EVERY_S
            stop.wait(min(EVERY_S, max(0.0, due_s - time.monotonic())))
    if died:
        raise ServiceError(f"the thread {', '.join(died)} died; the log above says of what")


def _end(sentence: str) -> None:
    """Ends the process, whose executor cannot be waited for; what was turned away is told first."""
    _log.critical("%s: the appliance ends, to be started again", sentence)
    time.sleep(LAST_WORDS_S)
    logging.shutdown()
    os._exit(HUNG_EXIT_CODE)


def _home_assistant(settings: Settings) -> HomeAssistant:
    database = settings.database
    return HomeAssistant(
        wanted=settings.homeassistant,
        broker=BrokerAddress.of(settings),
        discovery=Discovery(
            prefix=settings.homeassistant_prefix,
            topics=Topics(settings.topic_prefix),
            appliance=settings.appliance_id,
            expire_after_s=max(LEAST_EXPIRY_S, round(3 * settings.telemetry_interval)),
        ),
        announced=database.with_name(f"{database.name}.homeassistant"),
        clock=time.monotonic,
    )
