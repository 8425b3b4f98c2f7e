"""How each kind of fault is brought about, and taken back."""

from __future__ import annotations

import errno
import io
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
from PIL import Image

from tests.faults import faulty_engine, wall_clock
from tests.faults.proxy import FAIR, Weather
from tests.faults.schedule import Fault, Kind
from tests.faults.world import APPLIANCE, READY_S, World, wait_for

LONGEST_DELAY_S = 0.5
HOURS = 12
PAGE_BYTES = 4096
HEADER_BYTES = 64
DAMAGED_PAGES = 4
CHUNK_BYTES = 64 * 1024
SPARE_BYTES = 2**20
LARGE_FRAMES, LARGE_SIDE = 6, 4000
STAGE_FAULTS = 3
"""Frames that bring a stage's fault about: as many as take an engine out of service."""
FAILED_S = 5.0

Injection = Callable[[World, Fault], AbstractContextManager[float | None]]
"""A fault that lasts as long as its `with` block. What it gives is the moment from which recovery
counts, in seconds since the epoch; None where that is the end of the fault."""


@contextmanager
def _appliance_killed(world: World, _fault: Fault) -> Iterator[float | None]:
    struck_s = time.time()
    world.kill_appliance()
    world.serving.start()
    yield struck_s


@contextmanager
def _appliance_frozen(world: World, _fault: Fault) -> Iterator[float | None]:
    with world.serving.frozen():
        yield None


@contextmanager
def _broker_killed(world: World, _fault: Fault) -> Iterator[float | None]:
    world.kill_broker()
    try:
        yield None
    finally:
        world.broker.start()


@contextmanager
def _broker_frozen(world: World, _fault: Fault) -> Iterator[float | None]:
    process = psutil.Process(world.broker.pid)
    process.suspend()
    try:
        yield None
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


@contextmanager
def _cut(world: World, _fault: Fault) -> Iterator[float | None]:
    world.near.cut()
    world.far.cut()
    yield None


@contextmanager
def _weather(world: World, weather: Weather) -> Iterator[None]:
    world.near.weather = world.far.weather = weather
    try:
        yield
    finally:
        world.near.weather = world.far.weather = FAIR


@contextmanager
def _half_open(world: World, _fault: Fault) -> Iterator[float | None]:
    with _weather(world, Weather(silent=True)):
        yield None
        # Packets are missing: such a connection never gets well again, it is found dead.
        world.near.cut()
        world.far.cut()


@contextmanager
def _late_acks(world: World, fault: Fault) -> Iterator[float | None]:
    with _weather(world, Weather(ack_delay_s=LONGEST_DELAY_S * fault.severity)):
        yield None


@contextmanager
def _reordered_acks(world: World, fault: Fault) -> Iterator[float | None]:
    with _weather(world, Weather(ack_jitter_s=LONGEST_DELAY_S * fault.severity)):
        yield None


@contextmanager
def _full_disk(world: World, _fault: Fault) -> Iterator[float | None]:
    ballast = world.database.parent / "ballast"
    _fill(ballast)
    try:
        yield None
    finally:
        ballast.unlink()


@contextmanager
def _busy_database(world: World, _fault: Fault) -> Iterator[float | None]:
    with closing(sqlite3.connect(world.database, isolation_level=None, timeout=READY_S)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield None
        other.execute("ROLLBACK")


@contextmanager
def _damaged_header(world: World, fault: Fault) -> Iterator[float | None]:
    with _damaged(world, fault, [0]) as struck_s:
        yield struck_s


@contextmanager
def _damaged_pages(world: World, fault: Fault) -> Iterator[float | None]:
    pages = max(2, world.database.stat().st_size // PAGE_BYTES)
    most = min(DAMAGED_PAGES, pages - 1)
    chosen = Random(str(fault.severity)).sample(range(1, pages), most)
    with _damaged(world, fault, [page * PAGE_BYTES for page in chosen]) as struck_s:
        yield struck_s


@contextmanager
def _damaged(world: World, fault: Fault, places: list[int]) -> Iterator[float | None]:
    """Overwrites bytes of the file, as flash that wears out does over a power cut."""
    struck_s = time.time()
    world.kill_appliance()
    if fault.severity > 0.5:
        # Half of the time there is no write-ahead log that would cover the damage up.
        with closing(sqlite3.connect(world.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    noise = Random(str(fault.severity))
    with world.database.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(noise.randbytes(HEADER_BYTES if place == 0 else PAGE_BYTES))
    world.serving.start()
    yield struck_s
    # Whatever was acknowledged until it serves again may have been in the damaged file.
    world.rows_lost_until_s = time.time()


@contextmanager
def _clock(world: World, fault: Fault) -> Iterator[float | None]:
    hours = (2 * fault.severity - 1) * HOURS
    wall_clock.set_to(world.clock, round(hours * 3600))
    yield None
    wall_clock.set_to(world.clock, 0)


@contextmanager
def _meter(world: World, fault: Fault) -> Iterator[float | None]:
    """It is killed, falls silent or talks nonsense."""
    if fault.severity < 1 / 3:
        _signal_meters(world, signal.SIGKILL)
        yield None
    elif fault.severity < 2 / 3:
        _signal_meters(world, signal.SIGSTOP)
        yield None
        _signal_meters(world, signal.SIGCONT)
    else:
        world.nonsense.touch()
        yield None
        world.nonsense.unlink()


@contextmanager
def _stage_raises(world: World, _fault: Fault) -> Iterator[float | None]:
    for _ in range(STAGE_FAULTS):
        world.load.break_stage(faulty_engine.RAISES)
    yield None
    world.load.fleet.command(APPLIANCE, b'{"reload": "faulty"}')


@contextmanager
def _stage_hangs(world: World, _fault: Fault) -> Iterator[float | None]:
    world.load.break_stage(faulty_engine.HANGS)
    yield None


@contextmanager
def _stage_gives_nan(world: World, _fault: Fault) -> Iterator[float | None]:
    for _ in range(STAGE_FAULTS):
        world.load.break_stage(faulty_engine.NAN)
    yield None


@contextmanager
def _short_of_memory(world: World, _fault: Fault) -> Iterator[float | None]:
    with world.serving.short_of_memory(SPARE_BYTES):
        frame = _large_frame()
        for _ in range(LARGE_FRAMES):
            world.load.send_large(frame)
        yield None


INJECTIONS: Mapping[Kind, Injection] = {
    Kind.APPLIANCE_KILLED: _appliance_killed,
    Kind.APPLIANCE_FROZEN: _appliance_frozen,
    Kind.BROKER_KILLED: _broker_killed,
    Kind.BROKER_FROZEN: _broker_frozen,
    Kind.CUT: _cut,
    Kind.HALF_OPEN: _half_open,
    Kind.LATE_ACKS: _late_acks,
    Kind.REORDERED_ACKS: _reordered_acks,
    Kind.FULL_DISK: _full_disk,
    Kind.BUSY_DATABASE: _busy_database,
    Kind.DAMAGED_HEADER: _damaged_header,
    Kind.DAMAGED_PAGES: _damaged_pages,
    Kind.CLOCK: _clock,
    Kind.METER: _meter,
    Kind.STAGE_RAISES: _stage_raises,
    Kind.STAGE_HANGS: _stage_hangs,
    Kind.STAGE_NAN: _stage_gives_nan,
    Kind.MEMORY: _short_of_memory,
}


def _signal_meters(world: World, number: signal.Signals) -> None:
    wait_for(lambda: bool(world.serving.meters()), FAILED_S)
    for child in world.serving.meters():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)


def _fill(ballast: Path) -> None:
    """Writes until there is no room for another byte."""
    chunk = bytes(CHUNK_BYTES)
    with ballast.open("wb", buffering=0) as file:
        while chunk:
            try:
                file.write(chunk)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                chunk = chunk[: len(chunk) // 2]


def _large_frame() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (LARGE_SIDE, LARGE_SIDE), (200, 100, 50)).save(buffer, "PNG")
    return buffer.getvalue()
