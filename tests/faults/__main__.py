"""Plays seeded schedules of faults and prints what came of each kind."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.faults.play import Outcome, play, unplayable
from tests.faults.schedule import Kind, schedule

PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A kind of fault, over all schedules in which it occurred and which were played."""

    kind: str
    schedules: int
    requests: int
    answered: int
    violations: int
    recovery_p50_s: float | None
    recovery_max_s: float | None

    def __str__(self) -> str:
        times = (self.recovery_p50_s, self.recovery_max_s)
        p50, longest = ("-" if time_s is None else f"{time_s:.2f} s" for time_s in times)
        return (
            f"{self.kind:28}{self.schedules:>10}{self.requests:>10}{self.answered:>10}"
            f"{self.violations:>12}{p50:>14}{longest:>14}"
        )


HEADER = (
    f"{'fault':28}{'schedules':>10}{'requests':>10}{'replies':>10}{'violations':>12}"
    f"{'recovery p50':>14}{'max':>14}"
)


def main() -> int:
    arguments = _arguments()
    # So that whoever ends this ends what it started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    numbers = [arguments.only] if arguments.only is not None else range(arguments.schedules)
    started_s = time.monotonic()
    outcomes, lacking = [], unplayable()
    for number in numbers:
        planned = schedule(arguments.seed, number).without(lacking)
        if planned.faults:
            outcomes.append(play(planned, patience_s=arguments.patience, keep=arguments.keep))
            _tell(outcomes[-1])
    _print(outcomes, lacking, time.monotonic() - started_s, as_json=arguments.json)
    return 1 if any(outcome.violations for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--schedules", type=int, default=45)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="play that schedule alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to leave its files")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _tell(outcome: Outcome) -> None:
    """Progress on standard error: the table alone goes to standard output."""
    result = f"{outcome.requests} requests, {len(outcome.violations)} violations"
    recoveries = ", ".join(f"{time_s:.2f} s" for time_s in outcome.recoveries_s.values())
    number = outcome.schedule.number
    print(f"{number}: {outcome.schedule}: {result}; {recoveries}", file=sys.stderr, flush=True)
    for sentence in outcome.violations:
        print(f"    {sentence}", file=sys.stderr, flush=True)


def _line(kind: Kind, outcomes: Sequence[Outcome]) -> Line:
    of_kind = [one for one in outcomes if kind in one.schedule.kinds]
    recoveries_s = [one.recoveries_s[kind] for one in of_kind if kind in one.recoveries_s]
    return Line(
        kind=kind.value,
        schedules=len(of_kind),
        requests=sum(one.requests for one in of_kind),
        answered=sum(one.answered for one in of_kind),
        violations=sum(len(one.violations) for one in of_kind),
        recovery_p50_s=median(recoveries_s) if recoveries_s else None,
        recovery_max_s=max(recoveries_s, default=None),
    )


def _print(
    outcomes: Sequence[Outcome], lacking: Mapping[Kind, str], took_s: float, *, as_json: bool
) -> None:
    lines = [_line(kind, outcomes) for kind in Kind if kind not in lacking]
    violations = sum(len(outcome.violations) for outcome in outcomes)
    if as_json:
        found = {
            "schedules": len(outcomes),
            "violations": violations,
            "seconds": round(took_s, 1),
            "kinds": [asdict(line) for line in lines],
            "not_played": {kind.value: reason for kind, reason in lacking.items()},
        }
        print(json.dumps(found, indent=2))
        return
    print(HEADER)
    for line in lines:
        print(line)
    for kind, reason in lacking.items():
        print(f"{kind.value}: not played, since {reason}")
    print(f"{len(outcomes)} schedules in {took_s:.0f} s: {violations} violations")


if __name__ == "__main__":
    raise SystemExit(main())
