"""A seeded run of mutations through one target: what was found, how slow, how much memory."""

from __future__ import annotations

import faulthandler
import multiprocessing
import random
import signal
import time
import traceback
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from appliance.resident import settled_bytes
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

HANG_S = 1.0
"""Of processor time, so that other load on the machine finds nothing."""

STUCK_S = 60
"""Of the wall's clock, after which the process is ended: it waits, or cannot be interrupted."""

SAMPLES = 50
"""How often memory is looked at."""

GROWTH_BYTES = 10_000_000
"""More than memory's own noise; in 10,000 inputs, some kilobytes that each leaves behind."""

MOST_FINDS = 20
"""After which the rest would tell little more."""


class Hang(BaseException):
    """An input took too long. No `except Exception` takes it for a broken file's error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Find:
    """What an input did that it must not, and its number in the run."""

    index: int
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run went. Times in s of processor time, memory as resident, in bytes."""

    target: str
    inputs: int
    finds: tuple[Find, ...] = ()
    slowest_s: float = 0.0
    slowest_index: int = 0
    start_bytes: int = 0
    """The most in the first fifth of the inputs, when what is kept for good has been made."""
    end_bytes: int = 0
    """The least in the last fifth: what comes and goes with single inputs is no growth."""


@dataclass(slots=True)
class _Notes:
    finds: list[Find] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest_index: int = 0
    memory_bytes: list[int] = field(default_factory=list)


def mutated(target: Target, *, seed: int, index: int, examples: list[bytes]) -> bytes:
    """The input of that number; the same for the same seed, corpus and Python.

    The first are the examples as they are.
    """
    if index < len(examples):
        return examples[index]
    rng = random.Random(f"{seed}/{target.name}/{index}")
    return target.mutated(rng.choice(examples), rng)


def run_apart(name: str, *, count: int, seed: int) -> Outcome:
    """A run in a process of its own, so that one which ends its process is a find as well."""
    spawn = multiprocessing.get_context("spawn")
    at = spawn.Value("q", 0, lock=False)
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_run_into, args=(sender, name, count, seed, at))
    process.start()
    sender.close()
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        process.join()
        find = Find(index=at.value, what=f"ended the process, exit code {process.exitcode}")
        return Outcome(target=name, inputs=at.value + 1, finds=(find,))
    process.join()
    return outcome


def _run_into(sender: Connection, name: str, count: int, seed: int, at: Any) -> None:
    sender.send(run(TARGETS[name], count=count, seed=seed, at=at))


def run(target: Target, *, count: int, seed: int, at: Any = None) -> Outcome:
    """Tries inputs 0 to `count`; `at.value` tells which is being tried."""
    examples, notes = target.examples(), _Notes()
    apart = max(1, count // SAMPLES)
    index = -1
    for index in range(count):
        if at is not None:
            at.value = index
        if index % 50 == 0:
            faulthandler.dump_traceback_later(STUCK_S, exit=True)
        if index % apart == 0 and index >= len(examples):
            notes.memory_bytes.append(settled_bytes())
        _try(target, mutated(target, seed=seed, index=index, examples=examples), index, notes)
        if len(notes.finds) >= MOST_FINDS:
            break
    faulthandler.cancel_dump_traceback_later()
    memory_bytes = [*notes.memory_bytes, settled_bytes()]
    fifth = max(1, len(memory_bytes) // 5)
    return _judged(
        Outcome(
            target=target.name,
            inputs=index + 1,
            finds=tuple(notes.finds),
            slowest_s=notes.slowest_s,
            slowest_index=notes.slowest_index,
            start_bytes=max(memory_bytes[:fifth]),
            end_bytes=min(memory_bytes[-fifth:]),
        )
    )


def _judged(outcome: Outcome) -> Outcome:
    grown = outcome.end_bytes - outcome.start_bytes
    if grown <= GROWTH_BYTES:
        return outcome
    find = Find(index=outcome.inputs - 1, what=f"memory grew by {grown / 1e6:.0f} MB")
    return replace(outcome, finds=(*outcome.finds, find))


def _try(target: Target, data: bytes, index: int, notes: _Notes) -> None:
    started_s = time.process_time()
    what = failure(target, data)
    took_s = time.process_time() - started_s
    if what is None and took_s > HANG_S:
        what = f"took {took_s:.1f} s"
    if what is not None:
        notes.finds.append(Find(index=index, what=what))
    if took_s > notes.slowest_s:
        notes.slowest_s, notes.slowest_index = took_s, index


def failure(target: Target, data: bytes) -> str | None:
    """What the target raises for an input, in a line; None where all is well."""
    before = signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, 2 * HANG_S)
    try:
        target.check(data)
    except Hang:
        return f"was interrupted after {2 * HANG_S:g} s"
    except Exception as error:
        return _told(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return None


def _interrupt(_number: int, _frame: object) -> None:
    raise Hang


def _told(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:200]} at {place.filename}:{place.lineno}"
