"""A wall clock for one process, which a file moves by hours; see wall_clock.c."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def lacks() -> str | None:
    """Why no clock can be moved here, as a sentence; None where one can."""
    if shutil.which("cc") is None:
        return "no C compiler here to build wall_clock.c with: `apt-get install gcc libc6-dev`"
    return None


def environment(folder: Path, clock: Path) -> dict[str, str]:
    """What a process must be started with so that `clock` moves it; built in `folder`."""
    library = folder / "wall_clock.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True
    )
    set_to(clock, 0)
    return {"LD_PRELOAD": str(library), "WALL_CLOCK_FILE": str(clock)}


def set_to(clock: Path, offset_s: int) -> None:
    """Sets the clock to so many seconds from the machine's, at once."""
    partial = clock.with_suffix(".partial")
    partial.write_text(f"{offset_s}\n")
    partial.replace(clock)
