"""Puts pages, gate and picture together, and serves them until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI
from nicegui import ui

from appliance.connection import BrokerAddress
from appliance.dashboard.gate import Gate
from appliance.dashboard.pages import Pages
from appliance.dashboard.sessions import Sessions
from appliance.errors import ServiceError, SettingsError
from appliance.picture import Picture
from appliance.settings import Settings
from appliance.watcher import Watcher

_log = logging.getLogger(__name__)

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SHUTDOWN_S = 3


def serve_dashboard(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises SettingsError where it may not listen there, ServiceError where it cannot.
    """
    password = settings.dashboard_secret()
    if password is None and settings.dashboard_host not in LOOPBACK:
        raise SettingsError(
            f"DELEN_DASHBOARD_HOST is {settings.dashboard_host}: without a password the dashboard"
            " listens on 127.0.0.1 only. Set DELEN_DASHBOARD_PASSWORD or"
            " DELEN_DASHBOARD_PASSWORD_FILE"
        )
    sessions = Sessions(password)
    with (
        _listening(settings) as listener,
        Watcher(BrokerAddress.of(settings), prefix=settings.topic_prefix) as watcher,
    ):
        picture = Picture(watcher, prefix=settings.topic_prefix)
        Pages(picture, sessions, settings).register()
        app = FastAPI(lifespan=_taking(picture), docs_url=None, redoc_url=None, openapi_url=None)
        ui.run_with(
            app,
            title="Dělen",
            dark=None,
            tailwind=False,
            favicon=_FAVICON,
            show_welcome_message=False,
            reconnect_timeout=10.0,
            binding_refresh_interval=None,
        )
        reader = "log in to push policies" if sessions.wanted else "read-only, without a password"
        _log.info("the dashboard is at %s (%s)", address_of(settings), reader)
        config = uvicorn.Config(
            Gate(app, sessions),
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            ws_max_size=1024 * 1024,
            proxy_headers=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listening(settings: Settings) -> socket.socket:
    host, port = settings.dashboard_host, settings.dashboard_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServiceError(
            f"the dashboard cannot listen on {host}, port {port}: {error.strerror}. Set"
            " DELEN_DASHBOARD_HOST or DELEN_DASHBOARD_PORT to another one"
        ) from error


def address_of(settings: Settings) -> str:
    """Where a browser on this machine finds it."""
    host = settings.dashboard_host
    shown = "127.0.0.1" if _is_every_address(host) else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{settings.dashboard_port}"


def _is_every_address(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host


_FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none"'
    ' stroke="#2f6f8f" stroke-width="4" stroke-linecap="round"><path d="M5 16h8"/>'
    '<path d="M13 16c6 0 5-9 12-9"/><path d="M13 16h14"/><path d="M13 16c6 0 5 9 12 9"/></g></svg>'
)


def _taking(picture: Picture) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(picture.keep_taking(), name="picture")
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return lifespan
