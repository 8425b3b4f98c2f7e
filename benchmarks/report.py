"""One finding, as every benchmark prints it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A figure, its goal, and what it was made from. `measured` holds the baseline beside it."""

    name: str
    figure: float
    unit: str
    goal: str
    met: bool
    measured: dict[str, Any]


def tell(progress: str) -> None:
    """Says on standard error how far it is."""
    print(progress, file=sys.stderr, flush=True)


def report(finding: Finding) -> None:
    """Prints a finding as one JSON object on standard output."""
    print(json.dumps(asdict(finding)), flush=True)
