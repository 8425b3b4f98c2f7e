"""A virtual environment for a peer, made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

INSTALL_S = 420
"""How long the installation of a peer may take."""

DONE = "installed"


class UnavailableError(Exception):
    """A peer cannot be installed or started; the sentence says why."""


def environment(name: str, requirements: Path) -> Path:
    """The Python of an environment with a peer's requirements. Raises UnavailableError.

    It is named after what it holds, so that other requirements or another Python make another.
    """
    mark = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = _cache() / f"{name}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        # This environment's own pip installs into it, which spares it one.
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        options = ["--disable-pip-version-check", "--only-binary=:all:"]
        _run([*pip, *options, "-r", str(requirements)])
        (folder / DONE).touch()
    return python


def _cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "delen" / "peers"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"not installed within {INSTALL_S} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        complaints = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise UnavailableError(f"cannot be installed: {' '.join(complaints)}") from error
