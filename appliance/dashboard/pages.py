"""Which page is at which path."""

import time
from contextlib import AbstractContextManager

from fastapi import Request, Response
from nicegui import Client, app, ui

from appliance.dashboard import layout
from appliance.dashboard.appliance_page import AppliancePage
from appliance.dashboard.fleet_page import FleetPage
from appliance.dashboard.gate import session_token
from appliance.dashboard.policy_page import PolicyPage
from appliance.dashboard.replay import Replays
from appliance.dashboard.sessions import Sessions
from appliance.dashboard.tenant_page import TenantPage
from appliance.picture import Picture
from appliance.settings import Settings


class Pages:
    """The pages of one dashboard."""

    def __init__(self, picture: Picture, sessions: Sessions, settings: Settings) -> None:
        self._picture = picture
        self._sessions = sessions
        self._settings = settings
        self._replays = Replays(engines=settings.engines)

    def register(self) -> None:
        """Tells NiceGUI of them; once in a process."""

        @ui.page("/", title="Fleet · Dělen")
        def fleet() -> None:
            with self._frame():
                FleetPage(self._picture)

        @ui.page("/appliance/{appliance}", title="Appliance · Dělen")
        def one_appliance(appliance: str) -> None:
            with self._frame((appliance, layout.appliance_path(appliance))):
                AppliancePage(self._picture, appliance)

        @ui.page("/tenant/{appliance}/{tenant}", title="Tenant · Dělen")
        def one_tenant(appliance: str, tenant: str) -> None:
            crumbs = [
                (appliance, layout.appliance_path(appliance)),
                (tenant, layout.tenant_path(appliance, tenant)),
            ]
            with self._frame(*crumbs):
                TenantPage(self._picture, appliance, tenant)

        @ui.page("/policy/{appliance}/{tenant}", title="Policy · Dělen")
        def policy(appliance: str, tenant: str) -> None:
            token = _token()
            crumbs = [
                (appliance, layout.appliance_path(appliance)),
                (tenant, layout.tenant_path(appliance, tenant)),
                ("policy", layout.policy_path(appliance, tenant)),
            ]
            with self._frame(*crumbs) as dark:
                PolicyPage(
                    self._picture,
                    appliance=appliance,
                    tenant=tenant,
                    settings=self._settings,
                    replays=self._replays,
                    may_push=lambda: self._sessions.holds(token, time.monotonic()),
                    dark=dark,
                )

        async def no_page(request: Request, _error: Exception) -> Response:
            with Client(ui.page("", title="No such page · Dělen"), request=request) as client:
                with self._frame():
                    ui.label("There is no such page.").classes("empty")
                    ui.link("To the fleet", "/").classes("go")
                return client.build_response(request, 404)

        app.add_exception_handler(404, no_page)

    def _frame(self, *crumbs: tuple[str, str]) -> AbstractContextManager[ui.dark_mode]:
        sessions, token = self._sessions, _token()
        return layout.page(
            self._picture,
            crumbs=crumbs,
            is_let_in=lambda: not sessions.wanted or sessions.holds(token, time.monotonic()),
            can_log_out=sessions.wanted,
        )


def _token() -> str | None:
    """The session that the page was asked for with, which is being made."""
    return session_token(ui.context.client.request.headers)
