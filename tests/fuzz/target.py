"""What can be fuzzed: a door of the appliance, and how what comes to it may be broken."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent.parent / "corpus"

Check = Callable[[bytes], None]
"""Hands bytes to the appliance; whatever it raises is a find, as a broken promise is.

The project's own errors, which a door may raise, are caught in it.
"""

Mutation = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One door, tried with the examples in `tests/corpus/NAME/` and what mutations make of them."""

    name: str
    check: Check
    mutations: Sequence[Mutation]

    def examples(self) -> list[bytes]:
        """What the corpus holds, always in the same order."""
        return [path.read_bytes() for path in self.files()]

    def files(self) -> list[Path]:
        return sorted(path for path in (CORPUS / self.name).iterdir() if path.is_file())

    def mutated(self, data: bytes, rng: random.Random) -> bytes:
        """The data after one mutation or a few."""
        for _ in range(1 + min(int(rng.expovariate(0.7)), 6)):
            data = rng.choice(self.mutations)(data, rng)
        return data
