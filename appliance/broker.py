"""Mosquitto as a child process, for the demo and the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from typing_extensions import Self

from appliance.errors import BrokerError

HOST = "127.0.0.1"
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.005
_PORT_ATTEMPTS = 5
_LOG_LINES_SHOWN = 10
_QUEUED_MESSAGES = 10_000

_NOT_INSTALLED = (
    "Mosquitto is not installed:"
    " `sudo apt-get install mosquitto mosquitto-clients`, then try again."
)


class Mosquitto:
    """One broker on 127.0.0.1, which lives as long as the `with` block around it.

    `folder` holds its configuration, its log and what it persists. With `users` (name to password)
    nobody else may connect, without it anybody may; `acl` is the text of an ACL file. Where no
    `port` is given it takes a free one and keeps it, so that clients find it again after `kill()`
    and `start()`. With `persistence` its sessions and messages outlive that. `max_packet_bytes`
    is the largest MQTT packet it takes.

    Raises BrokerError where Mosquitto is missing or does not start, with the end of its log.
    """

    host = HOST

    def __init__(  # noqa: PLR0913 - each names one thing that a test or the demo decides
        self,
        *,
        folder: Path,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        port: int | None = None,
        persistence: bool = False,
        max_packet_bytes: int | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._users = users
        self._acl = acl
        self._port = port
        self._persistence = persistence
        self._max_packet_bytes = max_packet_bytes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise BrokerError("Mosquitto has no port before its first start: call start() first.")
        return self._port

    @property
    def log(self) -> Path:
        """The file that it logs to."""
        return self._folder / "mosquitto.log"

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def start(self) -> None:
        """Starts it and returns once it listens; on the same port as before, if it ran before."""
        if self.pid is not None:
            return
        executable = _executable("mosquitto")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_credentials()
        if self._port is not None:
            self._start_on(self._port, executable)
            return
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            port = free_port()
            try:
                self._start_on(port, executable)
            except BrokerError:
                # Between finding the port and binding it somebody else may have taken it.
                if attempt == _PORT_ATTEMPTS or not _taken(port):
                    raise
            else:
                self._port = port
                return

    def stop(self) -> None:
        """Ends it as an operator would (SIGTERM): it says goodbye and saves what it persists."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends it as a power cut would (SIGKILL)."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_credentials(self) -> None:
        if self._users is not None:
            if any(set(":\n") & set(u + p) for u, p in self._users.items()):
                raise BrokerError("A user's name and password may hold no colon and no line break.")
            passwords = self._folder / "passwords"
            _write_private(passwords, "".join(f"{u}:{p}\n" for u, p in self._users.items()))
            # Hashed from a file: on a command line, everybody on the machine could read them.
            subprocess.run([_executable("mosquitto_passwd"), "-U", str(passwords)], check=True)  # noqa: S603 - of Mosquitto alone
        if self._acl is not None:
            _write_private(self._folder / "acl", self._acl)

    def _start_on(self, port: int, executable: str) -> None:
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(self._configuration(port), encoding="utf-8")
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - Mosquitto, found on the path
                [executable, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Else Ctrl-C would end it together with the appliance, which still has to drain.
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens(process, port)
        except BaseException:
            process.kill()
            process.wait()
            raise
        self._process = process

    def _configuration(self, port: int) -> str:
        lines = [
            f"listener {port} {HOST}",
            f"allow_anonymous {_yes(self._users is None)}",
            # Nagle's algorithm would cost some 40 ms a round trip.
            "set_tcp_nodelay true",
            # No limit of its own: each client's Receive Maximum decides what is in flight to it.
            "max_inflight_messages 0",
            # What waits behind that is bounded: messages beyond it are dropped.
            f"max_queued_messages {_QUEUED_MESSAGES}",
            "log_dest stderr",
            "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        ]
        if os.geteuid() == 0:
            # As root it would become the user `mosquitto`, who may not read this folder.
            lines.append("user root")
        if self._users is not None:
            lines.append(f"password_file {self._folder / 'passwords'}")
        if self._acl is not None:
            lines.append(f"acl_file {self._folder / 'acl'}")
        if self._max_packet_bytes is not None:
            lines.append(f"max_packet_size {self._max_packet_bytes}")
        if self._persistence:
            lines += [
                "persistence true",
                f"persistence_location {self._folder}/",
                # Every second: by `autosave_on_changes` Mosquitto 2.0 counts retained messages and
                # subscriptions alone, so that a kill would lose requests however old.
                "autosave_interval 1",
            ]
        return "\n".join([*lines, ""])

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not _listens(process.pid, port):
            if process.poll() is not None:
                raise BrokerError(
                    f"Mosquitto ended at its start with exit code {process.returncode}."
                    f" Its log, {self.log}, ends with:\n{self._last_lines()}"
                )
            if time.monotonic() > deadline_s:
                raise BrokerError(
                    f"Mosquitto does not listen on port {port} after {_START_TIMEOUT_S:.0f} s."
                    f" Its log, {self.log}, ends with:\n{self._last_lines()}"
                )
            time.sleep(_POLL_S)

    def _last_lines(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES_SHOWN:])


def _executable(name: str) -> str:
    # Debian puts the broker into /usr/sbin, which is not on an ordinary user's path.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise BrokerError(_NOT_INSTALLED)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
        return False


def _listens(pid: int, port: int) -> bool:
    # Asking the process rather than the port: another program may be the one who answers there.
    try:
        sockets = psutil.Process(pid).net_connections("tcp4")
    except psutil.NoSuchProcess:
        return False
    return any(s.status == psutil.CONN_LISTEN and s.laddr.port == port for s in sockets)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _yes(value: bool) -> str:  # noqa: FBT001 - it is what is written, not a switch
    return "true" if value else "false"
