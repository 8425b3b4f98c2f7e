"""The Docker engine that runs here, or one of the tests' own, and what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0
COMMAND_S = 500.0
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_FIREWALL = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
"""The tables that an engine writes to, and the chains that each has of itself."""

PIP_CONFIGURATION = Path("/etc/pip.conf")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A Docker engine."""

    host: str | None = None
    """Its address; None is the one that `docker` itself finds."""

    def environment(self) -> dict[str, str]:
        host = {} if self.host is None else {"DOCKER_HOST": self.host}
        return {**os.environ, "DOCKER_BUILDKIT": "1", **host}

    def try_(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What a `docker` command printed, whatever came of it."""
        return subprocess.run(
            [_docker(), *arguments],
            check=False,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )

    def docker(self, *arguments: str) -> str:
        """What a `docker` command printed on its standard output; it must succeed."""
        done = self.try_(*arguments)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def build(self, tag: str, context: Path, **arguments: str) -> None:
        """Builds an image; the host's certificates and pip's configuration go along as secrets."""
        secrets = {"ca": CERTIFICATES, "pip": PIP_CONFIGURATION}
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--secret=id={i},src={path}" for i, path in secrets.items() if path.is_file()]
        self.docker("build", "--quiet", "--network=host", "--tag", tag, *options, str(context))

    def import_debian(self, tag: str) -> None:
        """Makes a plain Debian an image, without pulling one."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            command = ["debootstrap", "--variant=minbase", "bookworm", str(root)]
            subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_S)
            archive = Path(folder) / "root.tar"
            subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
            self.docker("import", str(archive), tag)


def _docker() -> str:
    # Debian's own fits its engine; another that comes first on the path may lack what that needs.
    debian = Path("/usr/bin/docker")
    return str(debian) if debian.exists() else "docker"


def compose_command() -> Sequence[str]:
    """`docker compose` where it is, else its forerunner."""
    plugin = [_docker(), "compose"]
    found = subprocess.run([*plugin, "version"], check=False, capture_output=True).returncode == 0
    return plugin if found else ["docker-compose"]


@contextmanager
def some_engine() -> Iterator[Engine]:
    """The engine that runs here, else one that ends with the block; that takes root."""
    running = Engine()
    if running.try_("info").returncode == 0:
        yield running
        return
    with own_engine() as engine:
        yield engine


@contextmanager
def own_engine() -> Iterator[Engine]:
    """A `dockerd` whose files lie in a folder of their own, which is gone afterwards."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="delen-docker-"))
        stack.callback(_remove, folder)
        engine = Engine(host=f"unix://{folder}/docker.sock")
        stack.enter_context(_firewall_as_before())
        # No bridge beside those of networks that are removed: it would outlive the engine.
        command = ["dockerd", "--bridge=none"]
        command += ["--host", f"unix://{folder}/docker.sock"]
        for option, name in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")):
            command += [f"--{option}", str(folder / name)]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_stop, daemon)
        _wait_until_it_answers(engine, daemon, folder / "log")
        yield engine


@contextmanager
def _firewall_as_before() -> Iterator[None]:
    """Takes back the rules that an engine makes, which drop what another one's networks forward."""
    before = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
    for table, chains in _FIREWALL.items():
        if f"*{table}\n" not in before:
            policies = "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains)
            before += f"*{table}\n{policies}COMMIT\n"
    try:
        yield
    finally:
        subprocess.run(["iptables-restore"], check=True, input=before, text=True)


def _wait_until_it_answers(engine: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while engine.try_("info").returncode != 0:
        assert daemon.poll() is None, f"dockerd ended:\n{log.read_text()[-2000:]}"
        assert time.monotonic() < deadline_s, f"dockerd hangs:\n{log.read_text()[-2000:]}"
        time.sleep(0.2)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(START_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _remove(folder: Path) -> None:
    # What the engine still has mounted there would otherwise outlive it.
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for mount in reversed([line.split()[1] for line in mounts]):
        if mount.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)
