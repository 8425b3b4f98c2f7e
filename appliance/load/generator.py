"""The load generator: a child process that runs LoadGen, since only a process can be stopped."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from typing_extensions import Self

from appliance.connection import BrokerAddress
from appliance.errors import DelenError, LoadError
from appliance.load import loadgen
from appliance.load.loadgen import Timing, Verdict
from appliance.load.outcomes import Outcome
from appliance.load.samples import Sample
from appliance.load.scenarios import Scenario, Trial
from appliance.load.target import Target, warm_up
from appliance.messages import Rejection, Reply, Result
from appliance.session import Session

STOP_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is sent, and where to."""

    broker: BrokerAddress
    prefix: str
    samples: tuple[Sample, ...]
    outstanding: int
    """How many samples are on their way at a time where the scenario sets no times: offline."""
    timeout_s: float
    logs: Path


@dataclass(frozen=True, slots=True)
class Pace:
    """What the appliance does when it is warm."""

    latency_s: float
    rate_hz: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """A trial that was played, and what became of its samples."""

    trial: Trial
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    duration_s: float
    """From the first scheduled time to the last reply."""


class LoadGenerator:
    """Runs while the `with` block around it does; a trial that is cut short ends with it.

    Entering it warms the appliance up. Raises LoadError, BrokerError.
    """

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, self._theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(self._theirs, load), name="load", daemon=True
        )
        self.pace = Pace(0.0, 0.0)

    def __enter__(self) -> Self:
        self._process.start()
        # Else its end would not be noticed here.
        self._theirs.close()
        try:
            warm = self._next()
        except BaseException:
            self._stop()
            raise
        if isinstance(warm, Pace):
            self.pace = warm
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def play(self, trial: Trial) -> Played:
        """Runs one trial to its end. Raises LoadError."""
        self._ours.send(trial)
        played = self._next()
        if not isinstance(played, Played):
            raise LoadError(f"the load generator answers {trial.name} with {played}")
        return played

    def _next(self) -> Pace | Played:
        try:
            message = self._ours.recv()
        except EOFError:
            self._process.join(STOP_S)
            code = self._process.exitcode
            raise LoadError(f"the load generator ended with exit code {code}") from None
        if isinstance(message, DelenError):
            raise message
        if not isinstance(message, Pace | Played):
            raise LoadError(f"the load generator says {message!r}")
        return message

    def _stop(self) -> None:
        self._ours.close()
        self._process.terminate()
        self._process.join(STOP_S)


def _serve(pipe: Connection, load: Load) -> None:
    """The child: warms up, then plays a trial for each that comes, until the pipe is closed."""
    # Ctrl-C is for the parent, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Session(load.broker, prefix=load.prefix) as client:
            pace = warm_up(
                client, load.samples, timeout_s=load.timeout_s, outstanding=load.outstanding
            )
            pipe.send(Pace(*pace))
            while True:
                pipe.send(_play(pipe.recv(), client, load))
    except DelenError as error:
        pipe.send(error)
    except EOFError:
        return


def _play(trial: Trial, client: Session, load: Load) -> Played:
    folder = load.logs / trial.name
    # LoadGen would leave the end of a longer log of an earlier run behind its own.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    limit = load.outstanding if trial.scenario is Scenario.OFFLINE else None
    with Target(
        client,
        load.samples,
        timeout_s=load.timeout_s,
        outstanding=limit,
        completed=loadgen.complete,
    ) as target:
        loadgen.run(trial, samples=len(load.samples), issue=target.issue, folder=folder)
        replies = list(target.replies)
    timings = loadgen.read_timings(folder / loadgen.TRACE)
    if len(timings) != len(replies):
        raise LoadError(f"LoadGen counts {len(timings)} samples where {len(replies)} were sent")
    first_s = min(timing.scheduled_s for timing in timings)
    last_s = max(timing.scheduled_s + timing.latency_s for timing in timings)
    detail = (folder / loadgen.DETAIL).read_text(encoding="utf-8")
    return Played(
        trial=trial,
        verdict=loadgen.read_verdict(detail, trial.scenario),
        outcomes=_outcomes(replies, timings),
        duration_s=last_s - first_s,
    )


def _outcomes(
    replies: Sequence[tuple[Sample, Reply | None]], timings: Sequence[Timing]
) -> tuple[Outcome, ...]:
    return tuple(
        _outcome(sample, reply, timing.latency_s)
        for (sample, reply), timing in zip(replies, timings, strict=True)
    )


def _outcome(sample: Sample, reply: Reply | None, latency_s: float) -> Outcome:
    outcome = partial(Outcome, tenant=sample.tenant, latency_s=latency_s)
    if isinstance(reply, Rejection):
        return outcome(code=reply.code)
    if not isinstance(reply, Result):
        return outcome()
    label, energy_mj = sample.frame.label, reply.energy_mj
    return outcome(
        exit=reply.exit,
        right=None if label is None else reply.label == label,
        energy_j=None if energy_mj is None else energy_mj * 1e-3,
    )
