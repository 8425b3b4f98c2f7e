"""A power cut as one process sees it: its files are left as it last synced them; see synced.c."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("synced.c")


class PowerCut:
    """Keeps what a process has synced in `folder`, its database's own, and leaves but that.

    `workshop` is a folder to build and to keep in.
    """

    def __init__(self, *, folder: Path, workshop: Path) -> None:
        self._folder = folder
        self._copies = workshop / "synced"
        self._library = workshop / "synced.so"
        self._copies.mkdir()
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE), "-ldl"],
            check=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the process must be started with."""
        return {
            "LD_PRELOAD": str(self._library),
            "SYNCED_FOLDER": str(self._folder),
            "SYNCED_COPIES": str(self._copies),
        }

    def strike(self) -> None:
        """Puts the files back to what was synced; the process must have been killed before."""
        for path in self._folder.iterdir():
            if path.is_file():
                path.unlink()
        for copy in self._copies.iterdir():
            if not copy.name.startswith("."):
                shutil.copy(copy, self._folder / copy.name)
