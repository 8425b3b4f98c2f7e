"""The composed appliance and broker, as an operator starts them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.broker import HOST
from appliance.connection import BrokerAddress
from appliance.session import Session
from tests.container.engine import COMMAND_S, Engine, compose_command

PROJECT = "delentest"
WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A folder with the compose files, and what runs of it."""

    engine: Engine
    folder: Path
    port: int

    def try_(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        files = ["-f", "compose.yaml", "-f", "compose.cpu.yaml"]
        return subprocess.run(
            [*compose_command(), "-p", PROJECT, *files, *arguments],
            check=False,
            cwd=self.folder,
            env=self.engine.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )

    def compose(self, *arguments: str) -> str:
        """What a compose command printed on its standard output; it must succeed."""
        done = self.try_(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "-q", service)

    def kill(self, service: str) -> None:
        """SIGKILL, as a power cut: no goodbye, nothing saved."""
        self.engine.docker("kill", "--signal", "KILL", self.container(service))
        self.engine.docker("wait", self.container(service))

    def stop(self, service: str) -> int:
        """SIGTERM; the exit code."""
        self.engine.docker("stop", self.container(service))
        return int(self.engine.docker("wait", self.container(service)))

    def start(self, service: str) -> None:
        self.engine.docker("start", self.container(service))

    @contextmanager
    def twin_with_data_in(self, tmpfs: str) -> Iterator[str]:
        """Has another appliance in the first one's stead, whose data are in memory; its id."""
        self.stop("appliance")
        seen = json.loads(self.engine.docker("inspect", self.container("appliance")))[0]
        (network,) = seen["NetworkSettings"]["Networks"]
        options = ["--network", network, "--tmpfs", tmpfs]
        options += [f"--env={variable}" for variable in seen["Config"]["Env"]]
        options += [
            f"--volume={mount['Source']}:{mount['Destination']}:ro"
            for mount in seen["Mounts"]
            if mount["Type"] == "bind"
        ]
        twin = self.engine.docker("run", "--detach", *options, seen["Config"]["Image"])
        try:
            yield twin
        finally:
            self.engine.docker("rm", "--force", twin)
            self.start("appliance")
            self.wait_online()

    def health(self) -> str:
        """What `delen health` says in the appliance's container, well or not."""
        return self.try_("exec", "-T", "appliance", "delen", "health").stdout.strip()

    def wait_online(self) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while self.health() != "online":
            assert time.monotonic() < deadline_s, self.compose("logs", "appliance")
            time.sleep(0.2)

    def running_s(self) -> float:
        """The seconds from the start of the appliance's container to its last log line."""
        container = self.container("appliance")
        started = json.loads(self.engine.docker("inspect", container))[0]["State"]["StartedAt"]
        return _seconds_between(started, self._online_at(container))

    def _online_at(self, container: str) -> str:
        log = self.engine.try_("logs", "--timestamps", container)
        lines = (log.stdout + log.stderr).splitlines()
        return [line for line in lines if " online at " in line][-1].split()[0]

    def client(self, user: str, password: str | None = None) -> Session:
        """A connection over TLS, as anybody outside makes it."""
        handed_out = self.folder / "secrets" / "clients"
        if password is None:
            password = (handed_out / f"{user}.password").read_text().strip()
        address = BrokerAddress(
            host=HOST,
            port=self.port,
            username=user,
            password=password,
            tls_ca=handed_out / "ca.crt",
        )
        return Session(address)


@contextmanager
def composed(engine: Engine, folder: Path, port: int) -> Iterator[Composition]:
    """Brings it up as it is in a folder, and takes it down with all its volumes."""
    composition = Composition(engine=engine, folder=folder, port=port)
    try:
        composition.compose("up", "-d", "--no-build")
        yield composition
    finally:
        composition.try_("down", "--volumes", "--timeout", "5")


def _seconds_between(first: str, second: str) -> float:
    """Two moments of one day as Docker writes them, to the nanosecond."""

    def seconds(moment: str) -> float:
        hours, minutes, rest = moment.split("T")[1].rstrip("Z").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    return (seconds(second) - seconds(first)) % 86_400
