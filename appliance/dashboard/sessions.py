"""Who has logged in, and who tries too often; told the time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque

from appliance.errors import DelenError

SESSION_S = 12 * 3600.0
MAX_SESSIONS = 1000

WINDOW_S = 60.0
"""In so much time an address may fail so often, and all addresses together."""
MAX_FAILURES = 5
MAX_FAILURES_OF_ALL = 50
_MAX_ADDRESSES = 1000


class LoginRefused(DelenError):
    """Nobody is logged in; the sentence says why."""


class Sessions:
    """The sessions of those who know the password. Without a password there are none.

    Times are monotonic seconds.
    """

    def __init__(self, password: str | None) -> None:
        self._digest = None if password is None else _digest(password)
        self._ends_s: OrderedDict[bytes, float] = OrderedDict()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._all_failures: deque[float] = deque(maxlen=MAX_FAILURES_OF_ALL)

    @property
    def wanted(self) -> bool:
        """Whether one has to log in."""
        return self._digest is not None

    def log_in(self, password: str, *, address: str, now_s: float) -> str:
        """A new session's token. Raises LoginRefused."""
        if self._digest is None:
            raise LoginRefused("there is no password to log in with")
        wait_s = self._wait_s(address, now_s)
        if wait_s > 0.0:
            raise LoginRefused(f"too many attempts: try again in {wait_s:.0f} s")
        if not hmac.compare_digest(_digest(password), self._digest):
            self._note_failure(address, now_s)
            raise LoginRefused("this is not the password")
        self._failures.pop(address, None)
        token = secrets.token_urlsafe(32)
        self._ends_s[_digest(token)] = now_s + SESSION_S
        if len(self._ends_s) > MAX_SESSIONS:
            self._ends_s.popitem(last=False)
        return token

    def holds(self, token: str | None, now_s: float) -> bool:
        """Whether somebody is logged in with this token."""
        # Kept by its digest, so that looking it up tells nothing of it by the time it takes.
        end_s = None if token is None else self._ends_s.get(_digest(token))
        return end_s is not None and now_s < end_s

    def log_out(self, token: str | None) -> None:
        if token is not None:
            self._ends_s.pop(_digest(token), None)

    def _wait_s(self, address: str, now_s: float) -> float:
        own = self._failures.get(address) or deque()
        waits_s = [0.0]
        if len(own) >= MAX_FAILURES:
            waits_s.append(own[0] + WINDOW_S - now_s)
        if len(self._all_failures) >= MAX_FAILURES_OF_ALL:
            waits_s.append(self._all_failures[0] + WINDOW_S - now_s)
        return max(waits_s)

    def _note_failure(self, address: str, now_s: float) -> None:
        own = self._failures.setdefault(address, deque(maxlen=MAX_FAILURES))
        own.append(now_s)
        self._all_failures.append(now_s)
        self._failures.move_to_end(address)
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()
