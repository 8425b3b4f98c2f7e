"""One target under atheris, which looks for inputs that reach code no other has reached.

Run as `python -m tests.fuzz.guided NAME --seconds S`. What it finds goes to `runs/fuzz/`.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

FOUND = Path("runs") / "fuzz"
TIMEOUT_S = 30
"""Of the wall's clock, for one input, on a machine that may have other things to do."""

MEMORY_MB = 2048
MAX_BYTES = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.fuzz.guided", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    import atheris  # noqa: PLC0415 - absent where there is none for this Python or processor

    with atheris.instrument_imports(include=["appliance"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - imported to be instrumented
    target = TARGETS[options.name]
    grown = FOUND / "corpus" / target.name
    grown.mkdir(parents=True, exist_ok=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        return target.mutated(data, rng)[:max_size]

    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_BYTES}",
        f"-seed={options.seed}",
        f"-artifact_prefix={FOUND}/{target.name}-",
        "-print_final_stats=1",
        str(grown),
        str(target.files()[0].parent),
    ]
    atheris.Setup(arguments, target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
