"""The gate before every page and socket: origin, session, and the headers of answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.dashboard.login import login_page
from appliance.dashboard.sessions import SESSION_S, LoginRefused, Sessions

COOKIE = "delen_session"
LOGIN = "/login"
LOGOUT = "/logout"
HEALTH = "/healthz"

MAX_FORM_BYTES = 4096
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""What a browser may load: from here, and from nowhere else. Vue compiles templates (eval)."""

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}


def session_token(headers: Headers) -> str | None:
    """The session that a request's cookies name, whatever stands there of other servers."""
    return cookie_parser(headers.get("cookie", "")).get(_cookie_name(headers))


def _cookie_name(headers: Headers) -> str:
    """One for each port: browsers send a host's cookies to every server there."""
    try:
        port = urlsplit(f"//{headers.get('host', '')}").port
    except ValueError:
        port = None
    return COOKIE if port is None else f"{COOKIE}_{port}"


class Gate:
    """Lets in who has a session, or everybody where no password is set.

    A page of another origin may neither send forms nor open the socket. Without a password only
    the names of this machine are answered to, since a foreign page could else reach it by a name
    that it has point here.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.app = app
        self._sessions = sessions
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers)
        if answer is None and scope["type"] == "http":
            answer = await self._answer(scope, headers, receive)
        if answer is None and not self._is_let_in(headers):
            answer = RedirectResponse(LOGIN, 303)
        if answer is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._sessions.wanted and _name(host) not in _LOOPBACK:
            return PlainTextResponse("Without a password only this machine is answered.", 403)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if changes and origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("This comes from a page of another origin.", 403)
        return None

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive) -> Response | None:
        """What the gate itself answers; None for what is behind it."""
        match scope["path"], scope["method"]:
            case (path, "GET") if path == HEALTH:
                return PlainTextResponse("ok\n")
            case (path, "GET") if path == LOGIN:
                if self._is_let_in(headers):
                    return RedirectResponse("/", 303)
                return HTMLResponse(login_page(), headers={"cache-control": "no-store"})
            case (path, "POST") if path == LOGIN:
                return await self._log_in(scope, headers, receive)
            case (path, "POST") if path == LOGOUT:
                self._sessions.log_out(session_token(headers))
                answer = RedirectResponse(LOGIN, 303)
                answer.delete_cookie(_cookie_name(headers))
                return answer
            case _:
                return None

    async def _log_in(self, scope: Scope, headers: Headers, receive: Receive) -> Response:
        form = parse_qs((await _body(receive)).decode(errors="replace"))
        password = form.get("password", [""])[0]
        address = scope["client"][0] if scope.get("client") else ""
        try:
            token = self._sessions.log_in(password, address=address, now_s=self._clock())
        except LoginRefused as error:
            return HTMLResponse(login_page(str(error)), 401, {"cache-control": "no-store"})
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            _cookie_name(headers),
            token,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )
        return answer

    def _is_let_in(self, headers: Headers) -> bool:
        sessions = self._sessions
        return not sessions.wanted or sessions.holds(session_token(headers), self._clock())


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= MAX_FORM_BYTES:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
    return b""


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return send_with_headers
