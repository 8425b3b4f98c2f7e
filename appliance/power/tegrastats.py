"""The meter that every Jetson has: NVIDIA's tegrastats, as a child process."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from appliance.errors import MeterError
from appliance.power.protocol import STALL_S, Reading
from appliance.power.tegrastats_line import MAX_CHARACTERS, parse_line

START_TIMEOUT_S = 5.0
"""How long the first line may take."""

_CHUNK_BYTES = 64 * 1024
_LOOK_UP_S = 0.25


class Tegrastats:
    """Readings from the lines that `command --interval MILLISECONDS` prints."""

    name = "tegrastats"

    def __init__(
        self,
        command: Sequence[str],
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._interval_s = interval_s
        self._clock = clock
        self._closed = threading.Event()

    def readings(self) -> Iterator[Reading]:
        child = self._start()
        try:
            yield from self._read(child)
        finally:
            _end(child)

    def close(self) -> None:
        self._closed.set()

    def _start(self) -> subprocess.Popen[bytes]:
        program = shutil.which(self._command[0])
        if program is None:
            raise MeterError(f"there is no program {self._command[0]} here")
        milliseconds = max(1, round(self._interval_s * 1e3))
        try:
            return subprocess.Popen(  # noqa: S603 - the operator names it
                [program, *self._command[1:], "--interval", str(milliseconds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # A group of its own, to be ended whole: it may be a script that starts others.
                start_new_session=True,
            )
        except OSError as error:
            raise MeterError(f"{program} cannot be started: {error}") from error

    def _read(self, child: subprocess.Popen[bytes]) -> Iterator[Reading]:
        output = _pipe(child)
        complaint, rest = "it printed nothing", b""
        deadline_s = self._clock() + START_TIMEOUT_S
        while not self._closed.is_set():
            left_s = deadline_s - self._clock()
            if left_s <= 0:
                raise MeterError(f"no reading for too long: {complaint}")
            if not select.select([output], [], [], min(left_s, _LOOK_UP_S))[0]:
                continue
            chunk = os.read(output.fileno(), _CHUNK_BYTES)
            time_s = self._clock()
            if not chunk:
                raise MeterError(f"it ended, {_exit(child)}: {complaint}")
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_CHARACTERS:
                raise MeterError("it printed a line without an end")
            newest = None
            for line in lines:
                try:
                    newest = _reading(line, time_s)
                except MeterError as error:
                    complaint = str(error)
            # Where several have come at once, only the last was printed just now.
            if newest is not None:
                complaint, deadline_s = "it fell silent", time_s + STALL_S
                yield newest


def _reading(line: bytes, time_s: float) -> Reading:
    parsed = parse_line(line.decode("utf-8", errors="replace"))
    return Reading(
        time_s=time_s,
        rails_w=parsed.rails_w,
        total_of=parsed.total_of,
        temperatures_c=parsed.temperatures_c,
    )


def _pipe(child: subprocess.Popen[bytes]) -> IO[bytes]:
    if child.stdout is None:
        raise ValueError("the child was started without a pipe")
    return child.stdout


def _exit(child: subprocess.Popen[bytes]) -> str:
    try:
        return f"exit code {child.wait(_LOOK_UP_S)}"
    except subprocess.TimeoutExpired:
        return "its output closed"


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    _pipe(child).close()
    child.wait()
