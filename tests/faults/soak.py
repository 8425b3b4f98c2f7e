"""A long load with mild faults: what the appliance's memory, files, threads and log come to."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

import numpy as np

from appliance.messages import Result
from tests.faults.injection import INJECTIONS
from tests.faults.play import settle
from tests.faults.schedule import MILD, Fault
from tests.faults.soak_picture import draw
from tests.faults.world import APPLIANCE, World

SAMPLE_S = 1.0
FAULT_EVERY_S = 10.0
HOLDS_S = 1.0
FEWEST_S, MOST_S, WARM_UP_PART = 20.0, 120.0, 0.2
"""The warm-up is a fifth of the time, within these limits: what grows once is not growth."""
EDGE_PART = 0.1
"""What is compared: the first tenth after the warm-up, and the last."""
MAY_GROW = 0.05
RELOAD = "engine reloaded"
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """How the appliance's process stands at a moment, in seconds since the start."""

    at_s: float
    resident_bytes: int
    files: int
    threads: int
    database_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A request of the probe: when it was sent, since the start, and how long it took."""

    at_s: float
    took_s: float


@dataclass(frozen=True, kw_only=True)
class Soak:
    """All that was seen."""

    warm_up_s: float
    samples: Sequence[Sample]
    answers: Sequence[Answered]
    faults: Sequence[tuple[float, str]]
    requests: int
    violations: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Medians over a stretch of it; latencies are percentiles."""

    resident_mb: float
    files: float
    threads: float
    p50_ms: float
    p99_ms: float
    database_mb: float


def figures(soak: Soak, from_s: float, to_s: float) -> Figures:
    """What it was like between two moments."""
    samples = [one for one in soak.samples if from_s <= one.at_s <= to_s]
    took_ms = [one.took_s * 1e3 for one in soak.answers if from_s <= one.at_s <= to_s]
    p50, p99 = np.percentile(took_ms, (50, 99)) if took_ms else (float("nan"), float("nan"))
    return Figures(
        resident_mb=round(median(one.resident_bytes for one in samples) / 1e6, 2),
        files=median(one.files for one in samples),
        threads=median(one.threads for one in samples),
        p50_ms=round(float(p50), 2),
        p99_ms=round(float(p99), 2),
        database_mb=round(median(one.database_bytes for one in samples) / 1e6, 3),
    )


def edges(soak: Soak) -> tuple[Figures, Figures]:
    """What it was like after the warm-up, and at the end."""
    ends_s = soak.samples[-1].at_s
    edge_s = EDGE_PART * (ends_s - soak.warm_up_s)
    return (
        figures(soak, soak.warm_up_s, soak.warm_up_s + edge_s),
        figures(soak, ends_s - edge_s, ends_s),
    )


def soak_for(seconds: float, *, seed: int, folder: Path) -> Soak:
    """Runs load and faults for so long. Raises TimeoutError where nothing comes up."""
    warm_up_s = min(MOST_S, max(FEWEST_S, WARM_UP_PART * seconds))
    samples: list[Sample] = []
    faults: list[tuple[float, str]] = []
    chance = Random(seed)
    with World(
        folder=folder,
        seed=f"soak-{seed}",
        database_folder=folder,
        metered=True,
        environment={},
    ) as world:
        started_s = time.time()
        world.load.start()
        due_s = FAULT_EVERY_S
        while (now_s := time.time() - started_s) < seconds:
            samples.append(_sample(world, now_s))
            if now_s >= due_s:
                due_s += FAULT_EVERY_S
                faults.append((now_s, _strike(world, chance)))
            _tell(samples[-1], faults)
            time.sleep(SAMPLE_S)
        world.load.stop()
        violations = settle(world, PATIENCE_S)
        return Soak(
            warm_up_s=warm_up_s,
            samples=samples,
            answers=_answers(world, started_s),
            faults=faults,
            requests=sum(len(sensor.sent()) for sensor in world.load.sensors),
            violations=violations,
        )


def _strike(world: World, chance: Random) -> str:
    """One mild fault, or an engine that is opened anew; its name."""
    kind = chance.choice([*MILD, None])
    if kind is None:
        world.load.fleet.command(APPLIANCE, b'{"reload": "digits"}')
        return RELOAD
    fault = Fault(kind=kind, holds_s=HOLDS_S, severity=chance.random())
    with INJECTIONS[kind](world, fault):
        time.sleep(fault.holds_s)
    return kind.value


def _sample(world: World, now_s: float) -> Sample:
    process = world.serving.process
    files = world.database.parent.glob(f"{world.database.name}*")
    return Sample(
        at_s=now_s,
        resident_bytes=process.memory_info().rss,
        files=process.num_fds(),
        threads=process.num_threads(),
        database_bytes=sum(file.stat().st_size for file in files),
    )


def _answers(world: World, started_s: float) -> list[Answered]:
    heard_s = {
        one.correlation: one.at_s
        for one in reversed(world.observer.heard)
        if isinstance(one.reply, Result)
    }
    return [
        Answered(
            at_s=sent.published_s - started_s,
            took_s=heard_s[sent.correlation] - sent.published_s,
        )
        for sent in world.load.probe.sent()
        if sent.correlation in heard_s
    ]


def _tell(sample: Sample, faults: Sequence[tuple[float, str]]) -> None:
    last = faults[-1][1] if faults else "none yet"
    print(
        f"{sample.at_s:7.0f} s  {sample.resident_bytes / 1e6:7.1f} MB  {sample.files} files"
        f"  {sample.threads} threads  {sample.database_bytes / 1e6:.1f} MB of log"
        f"  last fault: {last}",
        file=sys.stderr,
        flush=True,
    )


def report(soak: Soak) -> dict[str, object]:
    """What is printed, as JSON."""
    start, end = edges(soak)
    growth = end.resident_mb / start.resident_mb - 1
    return {
        "seconds": round(soak.samples[-1].at_s, 1),
        "start": {"after_warm_up_s": soak.warm_up_s, **asdict(start)},
        "end": asdict(end),
        "resident_growth": round(growth, 4),
        "within": MAY_GROW,
        "kept": abs(growth) <= MAY_GROW,
        "requests": soak.requests,
        "faults": dict(Counter(name for _, name in soak.faults)),
        "violations": list(soak.violations),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--png", type=Path, metavar="FILE", default=Path("soak.png"))
    arguments = parser.parse_args()
    # So that whoever ends this ends what it started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = soak_for(arguments.minutes * 60, seed=arguments.seed, folder=Path(folder))
    draw(soak, arguments.png)
    found = report(soak)
    print(json.dumps(found, indent=2))
    return 0 if found["kept"] and not soak.violations else 1


if __name__ == "__main__":
    raise SystemExit(main())
