"""The appliance as a child process: `delen serve`, as an operator would start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from typing_extensions import Self

import appliance
from appliance.errors import ServiceError
from appliance.settings import PREFIX

STOP_TIMEOUT_S = 10.0
LOG_LINES_SHOWN = 15


class Appliance:
    """Runs while the `with` block around it does; it is told to stop as systemd would.

    `folder` is its working folder, and takes its log; `settings` are the DELEN_* variables by
    name without that prefix, and no others of this environment reach it.
    """

    def __init__(self, name: str, *, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file that it logs to."""
        return self._folder / "appliance.log"

    @property
    def pid(self) -> int | None:
        """Its process id, None before it is started."""
        return None if self._process is None else self._process.pid

    def check(self) -> None:
        """Raises ServiceError with the end of its log where it has ended."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise ServiceError(
                f"the appliance ended with exit code {code}; its log ends with:\n"
                + self.last_lines()
            )

    def last_lines(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli", "serve"],
                cwd=self._folder,
                env=environment_of({"APPLIANCE_ID": self.name, **self._settings}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Else Ctrl-C would end it while the sensors still wait for their last replies.
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            end(self._process, patience_s=STOP_TIMEOUT_S)


def end(process: subprocess.Popen[bytes], *, patience_s: float) -> None:
    """Has a child end by SIGTERM, and by SIGKILL where that takes longer than `patience_s`."""
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    finally:
        # Also where a second Ctrl-C cuts the waiting short.
        process.kill()
        process.wait()


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: this one's, but with no settings other than these."""
    inherited = {name: v for name, v in os.environ.items() if not name.startswith(PREFIX)}
    own = {PREFIX + name: value for name, value in settings.items()}
    # It works in another folder than this process: a checkout that is not installed goes too.
    package = str(Path(appliance.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, inherited.get("PYTHONPATH")]))
    return {**inherited, **own, "PYTHONPATH": path}
