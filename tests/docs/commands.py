"""A page's commands, run as its reader would run them: one after the other, in one shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.broker import Mosquitto
from tests.docs.pages import ROOT, blocks_of, tracked_files

END = "END_OF_THE_BLOCK"

NOT_THEIRS = ("ARGS", "DELEN_", "MAKE", "MFLAGS", "PYTEST_")
"""How variables of this run begin that no reader has: `make` would hand its own ARGS on."""

# A command that fails is named with its line. What runs in the background ends with the page; the
# shell itself must outlive that, to wait for it.
FIRST_LINE = (
    "set -Eeuo pipefail;"
    r""" trap 'echo "$PAGE:$LINENO: exit code $?: $BASH_COMMAND" >&2' ERR;"""
    """ trap 'code=$?; set +x; trap "" TERM; kill 0; wait; exit $code' EXIT;"""
    " PS4='+ $PAGE:$LINENO: '; set -x"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a page's shell ended (None: it did not end in time), and all that it wrote."""

    code: int | None
    output: str


def script_of(text: str) -> str:
    """The shell script that a page is: every command stands in the line where the page has it."""
    lines = [""] * (len(text.splitlines()) + 1)
    lines[0] = FIRST_LINE
    for block in blocks_of(text):
        written = block.text.splitlines()
        after = block.line - 1 + len(written)
        if block.file is not None:
            lines[block.line - 2] = f"cat > {block.file} <<'{END}'"
            lines[after] = END
        elif block.language != "sh":
            continue
        lines[block.line - 1 : after] = written
    return "\n".join([*lines, ""])


def run(
    name: str, text: str, *, folder: Path, environment: Mapping[str, str], timeout_s: float
) -> Outcome:
    """Runs the commands of a page in a folder, and ends what they left running."""
    script, output = folder.parent / "commands.sh", folder.parent / "output.txt"
    script.write_text(script_of(text), encoding="utf-8")
    with output.open("w") as written:
        shell = subprocess.Popen(
            ["bash", str(script)],
            cwd=folder,
            env={**environment, "PAGE": name},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = shell.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    return Outcome(code, output.read_text(encoding="utf-8", errors="replace"))


def checkout(folder: Path) -> None:
    """Fills a folder with a copy of this checkout, and its virtual environment."""
    for path in tracked_files():
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # With its times, so that `make` finds the virtual environment newer than what it is of.
        shutil.copy2(path, copy)
    (folder / ".venv").symlink_to(ROOT / ".venv")


def environment_for(broker: Mosquitto, home: Path) -> dict[str, str]:
    """The reader's: no settings but the broker's, for `delen` and for Mosquitto's own clients."""
    home.mkdir()
    for client in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
        (home / client).write_text(f"-h {broker.host}\n-p {broker.port}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THEIRS)}
    return {
        **kept,
        "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{kept['PATH']}{os.pathsep}/usr/sbin",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "DELEN_MQTT_HOST": broker.host,
        "DELEN_MQTT_PORT": str(broker.port),
    }
