"""The dashboard as a child process, for the demo; nothing where it is not installed."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import Self

from appliance.demo.child import end, environment_of
from appliance.settings import Settings

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_LISTENS, _PORT_TAKEN = "the dashboard is at ", "the dashboard cannot listen "
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.05


class Dashboard:
    """Runs while the `with` block around it does.

    `settings` are the DELEN_* variables by name without that prefix.
    """

    def __init__(self, *, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        if importlib.util.find_spec("nicegui") is None:
            return self
        self._start()
        return self

    @property
    def _log(self) -> Path:
        return self._folder / "dashboard.log"

    def _start(self) -> None:
        self._port = _free_port()
        settings = {**self._settings, "DASHBOARD_HOST": _HOST, "DASHBOARD_PORT": str(self._port)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli", "dashboard"],
                cwd=self._folder,
                env=environment_of(settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def address_once_it_listens(self) -> str | None:
        """Where a browser finds it; None where NiceGUI is not installed, or it did not start.

        Another program may take the port while it starts: then it is started again on another, and
        who answers on a port is not taken for it.
        """
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while self._process is not None and time.monotonic() < deadline_s:
            has_ended = self._process.poll() is not None
            said = self._log.read_text(encoding="utf-8", errors="replace")
            if has_ended and _PORT_TAKEN in said:
                self._start()
            elif has_ended:
                break
            elif _LISTENS in said:
                return f"http://{_HOST}:{self._port}"
            time.sleep(_POLL_S)
        return None

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            end(self._process, patience_s=_STOP_TIMEOUT_S)


def _free_port() -> int:
    """The usual port, or a free one where that is taken."""
    usual = Settings.model_fields["dashboard_port"].default
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return int(usual)
