"""Fuzzes every target: `python -m tests.fuzz --frames 100000 --policies 20000 --seed 1`.

A seeded run of so many inputs for each target, then atheris for so many seconds where it is
installed. Prints a table and ends with 1 where anything was found; each find is written to
`runs/fuzz/`.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.fuzz.campaign import Outcome, mutated, run_apart
from tests.fuzz.guided import FOUND
from tests.fuzz.targets import TARGETS

_COUNTS = {
    "frames": 2000, "policies": 500, "topics": 2000, "tegrastats": 2000, "manifests": 200,
    "onnx_files": 2000,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    table = Table("target", "inputs", "finds", "slowest", "memory at start", "at the end")
    finds = 0
    for name in TARGETS:
        count = getattr(options, name)
        if count:
            outcome = run_apart(name, count=count, seed=options.seed)
            print(f"{name}: {len(outcome.finds)} finds", file=sys.stderr, flush=True)
            table.add_row(*_row(outcome))
            _keep(outcome, options.seed)
            finds += len(outcome.finds)
    Console(width=100).print(table)
    if options.seconds:
        finds += _guide(options.seconds, options.seed)
    return 1 if finds else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    for name in TARGETS:
        text = f"how many mutated {name} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=_COUNTS[name], help=text)
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument(
        "--seconds", type=int, default=0, help="of atheris for each target (default: %(default)s)"
    )
    return parser


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.target,
        f"{outcome.inputs:,}",
        str(len(outcome.finds)),
        f"{outcome.slowest_s * 1e3:.0f} ms (input {outcome.slowest_index})",
        f"{outcome.start_bytes / 1e6:.1f} MB",
        f"{outcome.end_bytes / 1e6:.1f} MB",
    )


def _keep(outcome: Outcome, seed: int) -> None:
    """Writes each find's input to a file, and says what it did."""
    target = TARGETS[outcome.target]
    examples = target.examples()
    for find in outcome.finds:
        FOUND.mkdir(parents=True, exist_ok=True)
        path = FOUND / f"{target.name}-{seed}-{find.index}"
        path.write_bytes(mutated(target, seed=seed, index=find.index, examples=examples))
        print(f"{path}: {find.what}", file=sys.stderr)


def _guide(seconds: int, seed: int) -> int:
    """How many targets atheris found something in."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed here: no guided run (`make fuzz` installs it)")
        return 0
    failed = [name for name in TARGETS if not _is_sound(name, seconds, seed)]
    print(f"atheris, {seconds} s each: found something in {', '.join(failed) or 'none'}")
    return len(failed)


def _is_sound(name: str, seconds: int, seed: int) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.guided", name, f"--seconds={seconds}"]
    done = subprocess.run(
        [*command, f"--seed={seed}"], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
