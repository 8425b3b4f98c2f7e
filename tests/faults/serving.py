"""`delen serve` as a process that is killed, frozen, short of memory, or in another hour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from appliance.settings import PREFIX

ROOT = Path(__file__).parents[2]
STOP_S = 60.0


class Serving:
    """One appliance at a time, started again on the same files as a supervisor would.

    `settings` are the DELEN_* variables by name without that prefix, `environment` other ones.
    """

    def __init__(
        self, *, folder: Path, settings: Mapping[str, str], environment: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.log = folder / "appliance.log"
        self.ended_by_itself: list[int] = []
        """The exit codes with which it ended although nobody told it to."""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            **{PREFIX + name: value for name, value in settings.items()},
            **environment,
            "PYTHONPATH": str(ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> psutil.Process:
        if self._process is None:
            raise RuntimeError("the appliance was not started")
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        """Starts it, and returns at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli", "serve"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def revive(self) -> None:
        """Starts it again where it has ended by itself."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self.ended_by_itself.append(code)
            self.start()

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing saved."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    def end(self) -> int | None:
        """SIGTERM; its exit code, or None where it had to be killed."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT to the same process where it still lives."""
        process = self.process
        process.suspend()
        try:
            yield
        finally:
            if process.is_running():
                process.resume()

    @contextmanager
    def short_of_memory(self, spare_bytes: int) -> Iterator[None]:
        """Lets it map no more than it has and so much; the limit is lifted afterwards."""
        process = self.process
        soft, hard = process.rlimit(psutil.RLIMIT_AS)
        process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + spare_bytes, hard))
        try:
            yield
        finally:
            if process.is_running():
                process.rlimit(psutil.RLIMIT_AS, (soft, hard))

    def meters(self) -> list[psutil.Process]:
        """The children that stand in for tegrastats."""
        return [
            child
            for child in self.process.children(recursive=True)
            if any("meter" in part for part in child.cmdline())
        ]
