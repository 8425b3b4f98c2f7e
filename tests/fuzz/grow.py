"""Adds to the corpus what atheris grew, as far as it takes a way that nothing in the corpus takes.

Run as `python -m tests.fuzz.grow`, after `make fuzz`. Small files go first; large ones stay out.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import appliance
from tests.fuzz.guided import FOUND
from tests.fuzz.target import CORPUS, Target
from tests.fuzz.targets import TARGETS

MAX_BYTES = 4_000

Step = tuple[str, int, int]
"""From a line of a file to the next that ran."""

_OURS = str(Path(appliance.__file__).parent)


def main() -> None:
    for target in TARGETS.values():
        print(f"{target.name}: {grow(target)} new examples", flush=True)


def grow(target: Target) -> int:
    """How many files were added to a target's corpus."""
    taken: set[Step] = set()
    for data in target.examples():
        taken |= steps(target, data)
    grown = FOUND / "corpus" / target.name
    files = sorted(grown.iterdir(), key=lambda file: file.stat().st_size) if grown.is_dir() else []
    added = 0
    for file in files:
        data = file.read_bytes()
        new = steps(target, data) - taken if len(data) <= MAX_BYTES else set()
        if new:
            taken |= new
            name = hashlib.sha256(data).hexdigest()[:12]
            (CORPUS / target.name / name).write_bytes(data)
            added += 1
    return added


def steps(target: Target, data: bytes) -> set[Step]:
    """The steps that the appliance takes for an input."""
    taken: set[Step] = set()
    before: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        if event == "line":
            line = frame.f_lineno
            taken.add((frame.f_code.co_filename, before.get(frame, 0), line))
            before[frame] = line
        return trace

    sys.settrace(trace)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return taken


if __name__ == "__main__":
    main()
