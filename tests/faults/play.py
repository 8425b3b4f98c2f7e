"""Plays one schedule, and has the checker judge what came of it."""

from __future__ import annotations

import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import DelenError
from appliance.messages import Result
from tests.faults import wall_clock
from tests.faults.checker import violations
from tests.faults.injection import INJECTIONS
from tests.faults.schedule import Fault, Kind, Schedule
from tests.faults.world import World, wait_for

DISK_BYTES = 24 * 2**20
BREATH_S = 0.4
BETWEEN_CHECKS_S = 0.25

MAY_END = frozenset({Kind.MEMORY, Kind.FULL_DISK, Kind.DAMAGED_HEADER, Kind.DAMAGED_PAGES})
"""Faults of which the appliance may end, to be started again by whoever supervises it."""

TOLERATED: Mapping[Kind, frozenset[int]] = {
    Kind.MEMORY: frozenset({429, 500, 503}),
}
"""Codes with which any request may be rejected under a fault."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a schedule."""

    schedule: Schedule
    requests: int = 0
    answered: int = 0
    violations: tuple[str, ...] = ()
    recoveries_s: Mapping[Kind, float] = field(default_factory=dict)


def play(schedule: Schedule, *, patience_s: float, keep: Path | None = None) -> Outcome:
    """Plays it in a folder of its own, which is kept where `keep` says so."""
    with ExitStack() as stack:
        folder = keep
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        folder.mkdir(parents=True, exist_ok=True)
        disk = stack.enter_context(_disk(folder / "disk", small=Kind.FULL_DISK in schedule.kinds))
        try:
            world = stack.enter_context(_world(schedule, folder, disk))
            if Kind.BROKER_KILLED in schedule.kinds:
                world.wait_until_saved()
        except TimeoutError as error:
            return Outcome(schedule=schedule, violations=(str(error),))
        return _play_in(world, schedule, patience_s)


def unplayable() -> dict[Kind, str]:
    """The kinds of faults that this machine cannot bring about, and why, as sentences."""
    found = {}
    if (lacking := wall_clock.lacks()) is not None:
        found[Kind.CLOCK] = lacking
    if not _may_mount():
        found[Kind.FULL_DISK] = (
            "no small disk can be mounted here: only root may, and not in every container"
        )
    return found


def _play_in(world: World, schedule: Schedule, patience_s: float) -> Outcome:
    found: list[str] = []
    recoveries_s: dict[Kind, float] = {}
    world.load.start()
    time.sleep(BREATH_S)
    if schedule.overlap:
        first, second = schedule.faults
        with INJECTIONS[first.kind](world, first):
            time.sleep(first.holds_s / 2)
            _strike(world, second, recoveries_s, found, patience_s=None)
        _recover(world, time.time(), first.kind, recoveries_s, found, patience_s)
    else:
        for fault in schedule.faults:
            _strike(world, fault, recoveries_s, found, patience_s=patience_s)
            time.sleep(BREATH_S)
    world.load.stop()
    found += settle(world, patience_s)
    if not schedule.kinds & MAY_END:
        found += [
            f"the appliance ended by itself with exit code {code}"
            for code in world.serving.ended_by_itself
        ]
    requests = [sent for sensor in world.load.sensors for sent in sensor.sent()]
    return Outcome(
        schedule=schedule,
        requests=len(requests),
        answered=sum(isinstance(one.reply, Result) for one in world.observer.heard),
        violations=tuple(found),
        recoveries_s=recoveries_s,
    )


def _strike(
    world: World,
    fault: Fault,
    recoveries_s: dict[Kind, float],
    found: list[str],
    *,
    patience_s: float | None,
) -> None:
    """Brings a fault about for its time; waits for recovery where there is patience for it."""
    with INJECTIONS[fault.kind](world, fault) as struck_s:
        if struck_s is None:
            time.sleep(fault.holds_s)
        elif patience_s is not None:
            _recover(world, struck_s, fault.kind, recoveries_s, found, patience_s)
    if struck_s is None and patience_s is not None:
        _recover(world, time.time(), fault.kind, recoveries_s, found, patience_s)


def _recover(
    world: World,
    since_s: float,
    kind: Kind,
    recoveries_s: dict[Kind, float],
    found: list[str],
    patience_s: float,
) -> None:
    took_s = world.recovered_s(since_s, patience_s)
    if took_s is None:
        found.append(f"nothing is answered {patience_s:g} s after: {kind.value}")
    else:
        recoveries_s[kind] = took_s


def settle(world: World, patience_s: float) -> list[str]:
    """Waits until nothing is outstanding, ends the appliance, and gives what is wrong then."""

    def is_settled() -> bool:
        world.serving.revive()
        time.sleep(BETWEEN_CHECKS_S)
        return not world.load.outstanding() and not _judge(world)

    wait_for(is_settled, patience_s)
    code = world.end_appliance()
    found = _judge(world)
    if code != 0:
        found.append(f"told to end, the appliance did so with exit code {code}")
    return found


def _judge(world: World) -> list[str]:
    try:
        return violations(world.history())
    except (DelenError, sqlite3.Error) as error:
        return [f"the log cannot be read: {error}"]


def _world(schedule: Schedule, folder: Path, disk: Path) -> World:
    environment = {}
    if Kind.CLOCK in schedule.kinds:
        environment = wall_clock.environment(folder, folder / "clock")
    tolerated = frozenset[int]().union(*(TOLERATED.get(kind, ()) for kind in schedule.kinds))
    return World(
        folder=folder,
        seed=f"{schedule.seed}/{schedule.number}",
        database_folder=disk,
        metered=Kind.METER in schedule.kinds or schedule.number % 3 == 0,
        environment=environment,
        tolerated=tolerated,
        tolerated_in_lab=frozenset({500} if Kind.STAGE_RAISES in schedule.kinds else ()),
    )


@contextmanager
def _disk(folder: Path, *, small: bool) -> Iterator[Path]:
    """A folder for the database, on a disk of its own where it is to run full."""
    folder.mkdir(exist_ok=True)
    if not small:
        yield folder
        return
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "faults", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "faults", folder],
            check=False,
            capture_output=True,
        )
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0
