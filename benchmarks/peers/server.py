"""A peer as a child process, and a connection to it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environment import UnavailableError, environment
from benchmarks.peers.protocols import LITSERVE, MLSERVER, TRITON, Protocol, Request

HERE = Path(__file__).parent
START_S, STOP_S, REPLY_S = 90.0, 10.0, 20.0
_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Another server; `benchmarks/peers/NAME_server.py` runs it in an environment of NAME.txt."""

    name: str
    protocol: Protocol

    @property
    def requirements(self) -> Path:
        return HERE / f"{self.name}.txt"

    @property
    def script(self) -> Path:
        return HERE / f"{self.name}_server.py"


PEERS = (
    Peer(name="pytriton", protocol=TRITON),
    Peer(name="litserve", protocol=LITSERVE),
    Peer(name="mlserver", protocol=MLSERVER),
)


class Connection:
    """One HTTP connection that is kept, with TCP_NODELAY; for one thread at a time."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=REPLY_S)

    def post(self, request: Request) -> tuple[bytes, Mapping[str, str]]:
        """The body and headers of the reply. Raises RuntimeError for any but 200."""
        try:
            response = self._response_to(request)
        except (ConnectionError, http.client.RemoteDisconnected):
            # A server closes what has been idle for a while, as between two blocks.
            self._http.close()
            response = self._response_to(request)
        body = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{request.path} answers {response.status}: {body[:300]!r}")
        return body, dict(response.getheaders())

    def close(self) -> None:
        self._http.close()

    def _response_to(self, request: Request) -> http.client.HTTPResponse:
        self._http.request("POST", request.path, request.body, dict(request.headers))
        return self._http.getresponse()


@contextmanager
def running(peer: Peer, network: Path, folder: Path) -> Iterator[int]:
    """The port of a peer that serves the network. Raises UnavailableError where it does not."""
    python = environment(peer.name, peer.requirements)
    port = _free_port()
    log = folder / f"{peer.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), str(peer.script), str(network), str(port)],
            cwd=folder,
            env=_environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that its workers can be ended with it
        )
    try:
        _wait_until_ready(peer, process, port, log)
        yield port
    finally:
        _end(process)


def _environment() -> dict[str, str]:
    # Triton looks for the shared library of this very Python, which need not be the system's.
    paths = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(path for path in paths if path)}


def _wait_until_ready(peer: Peer, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not _is_ready(port, peer.protocol.ready):
        last = " ".join(log.read_text(errors="replace").split()[-40:])
        if process.poll() is not None:
            raise UnavailableError(f"ended with exit code {process.returncode}: {last}")
        if time.monotonic() > deadline_s:
            raise UnavailableError(f"not ready within {START_S:g} s: {last}")
        time.sleep(_POLL_S)


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    """A port that is free, as is the one after it, which some servers want for gRPC."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
