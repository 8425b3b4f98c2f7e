"""`delen dashboard`: a web page that shows a fleet."""

from __future__ import annotations

import logging

import typer

from appliance.errors import SettingsError
from appliance.settings import read_settings, unknown_variables

_log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    app.command()(dashboard)


def dashboard() -> None:
    """Show appliances and tenants on a web page, and edit policies there.

    An MQTT client like any other, so it runs on the box or on a desk. Settings are those of the
    appliance, with DELEN_DASHBOARD_HOST, DELEN_DASHBOARD_PORT and DELEN_DASHBOARD_PASSWORD.
    """
    settings = read_settings()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    for sentence in unknown_variables():
        _log.warning(sentence)
    try:
        from appliance.dashboard.server import serve_dashboard  # noqa: PLC0415 - it is optional
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the dashboard lacks {error.name}: install it with pip install 'delen[dashboard]'"
        ) from error
    serve_dashboard(settings)
