"""Judges a history: what docs/guarantees.md promises and did not come about, as sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import fsum, inf

from appliance.energy import IDLE, UNATTRIBUTED
from appliance.messages import Rejection, Reply, Result
from tests.faults.agreement import disagreements
from tests.faults.history import Heard, History, Row, Sent

ROUNDING_J = 1e-5
"""Telemetry tells joules in millionths, and adds four of them up."""


def violations(history: History) -> list[str]:
    """Everything that was promised and does not hold; empty where all does."""
    return [
        *_of_marked_requests(history),
        *_of_unmarked_requests(history),
        *_of_messages(history),
        *_of_policies(history),
        *_of_energy(history),
        *disagreements(history),
    ]


def _of_marked_requests(history: History) -> Iterator[str]:
    """Requests with correlation data: each is known by it, in the log and in messages."""
    heard = _by_mark(history.heard)
    rows = _by_mark(_marked_by_what_was_heard(history))
    for sent in history.sent:
        if sent.correlation is None:
            continue
        mark = (sent.tenant, sent.correlation)
        replies = [row.reply for row in rows[mark]]
        answers = sum(isinstance(reply, Result) for reply in replies)
        if answers > 1:
            yield f"{_name(sent)} is in the log {answers} times"
        yield from _refused(sent, replies)
        if sent.expires or not history.promised(sent.acknowledged_s):
            continue
        if not replies and _has_to_be_logged(sent, history):
            yield f"{_name(sent)} was acknowledged and is not in the log"
        if not heard[mark]:
            yield f"{_name(sent)} was acknowledged and nobody heard a reply"


def _of_unmarked_requests(history: History) -> Iterator[str]:
    """Requests without correlation data: they are counted, stream by stream."""
    of_stream: defaultdict[tuple[str, str | None], list[Sent]] = defaultdict(list)
    for sent in history.sent:
        if sent.correlation is None:
            of_stream[sent.tenant, sent.stream].append(sent)
    logged_here = [
        row.reply for row in _marked_by_what_was_heard(history) if row.correlation is None
    ]
    rows = Counter(map(_place, logged_here))
    heard = Counter(_place(one.reply) for one in history.heard if one.correlation is None)
    for (tenant, stream), requests in of_stream.items():
        where = f"the stream {stream} of {tenant}"
        promised = [one for one in requests if history.promised(one.acknowledged_s)]
        logged = sum(_has_to_be_logged(one, history) for one in promised)
        # A killed broker delivers again, as new, what it has forgotten to have delivered.
        most = sum(one.transmissions for one in requests) * (1 + len(history.forgotten))
        if rows[tenant, stream] < logged:
            yield f"{where}: {logged} were acknowledged, {rows[tenant, stream]} are in the log"
        if rows[tenant, stream] > most:
            yield f"{where}: {most} were sent, {rows[tenant, stream]} are in the log"
        if heard[tenant, stream] < len(promised):
            yield f"{where}: {len(promised)} were acknowledged, {heard[tenant, stream]} answered"
        tolerated = frozenset[int]().union(*(one.tolerated for one in requests))
        for reply in logged_here:
            if _place(reply) == (tenant, stream):
                yield from _intolerable(where, reply, tolerated)


def _of_messages(history: History) -> Iterator[str]:
    """Nobody hears what is another's."""
    marks = {one.correlation: one for one in history.sent if one.correlation is not None}
    for heard in history.heard:
        what = f"the reply {heard.reply.id} on {heard.topic}"
        if heard.reply.tenant != heard.tenant:
            yield f"{what} is an answer to {heard.reply.tenant}"
        if heard.correlation is None:
            continue
        sent = marks.get(heard.correlation)
        if sent is None:
            yield f"{what} carries correlation data that nobody sent"
        elif sent.tenant != heard.tenant:
            yield f"{what} carries correlation data of {sent.tenant}"
        elif heard.topic != sent.reply_topic:
            yield f"{what} should have gone to {sent.reply_topic}"


def _of_policies(history: History) -> Iterator[str]:
    """What is in force is what the last accepted push says."""
    for tenant in {push.tenant for push in history.pushes}:
        in_force = history.in_force.get(tenant)
        pushed = {one.version for one in history.pushes if one.tenant == tenant and one.valid}
        told = [one for one in history.told if one.tenant == tenant]
        accepted = max((one.version for one in told if one.version is not None), default=None)
        if in_force is None or in_force not in pushed:
            yield f"version {in_force} is in force for {tenant}, which nobody pushed"
            continue
        if accepted is not None and in_force < accepted:
            yield f"version {in_force} is in force for {tenant}, after {accepted} was accepted"
        if any(one.unable for one in told):
            continue
        promised = [
            one.version
            for one in history.pushes
            if one.tenant == tenant and one.valid and history.promised(one.acknowledged_s)
        ]
        if max(promised, default=0) > in_force:
            yield f"version {max(promised)} for {tenant} was acknowledged and is not in force"


def _of_energy(history: History) -> Iterator[str]:
    """Tenants, the idle machine and nobody make up the integral; the ledger makes up the log."""
    for told in history.joules:
        accounts_j = told.tenants_j + told.idle_j + told.unattributed_j
        if abs(accounts_j - told.integrated_j) > ROUNDING_J:
            yield f"the accounts hold {accounts_j} J of {told.integrated_j} J that were measured"
    yield from _of_reported_energy(history)
    if history.joules and history.ended and not history.appliance_killed:
        written_j = fsum(row.measured_j for row in history.ledger)
        told_j = history.joules[-1].integrated_j
        if written_j < told_j - ROUNDING_J:
            yield f"the ledger holds {written_j} J of {told_j} J that were measured"


def _of_reported_energy(history: History) -> Iterator[str]:
    logged_j: defaultdict[str, list[float]] = defaultdict(list)
    for row in history.rows:
        if isinstance(row.reply, Result) and row.reply.energy_mj:
            logged_j[row.reply.tenant].append(row.reply.energy_mj * 1e-3)
    written_j: defaultdict[str, list[float]] = defaultdict(list)
    for entry in history.ledger:
        if entry.account not in (IDLE, UNATTRIBUTED):
            written_j[entry.account].append(entry.reported_j)
    for tenant in logged_j.keys() | written_j.keys():
        log_j, ledger_j = fsum(logged_j[tenant]), fsum(written_j[tenant])
        # A backup holds the ledger without the log: what a damaged file logged is in that alone.
        is_less = history.rows_lost_until_s > -inf and log_j < ledger_j
        if abs(log_j - ledger_j) > ROUNDING_J and not is_less:
            yield f"the log has {log_j} J for {tenant}, the ledger {ledger_j} J"


def _refused(sent: Sent, replies: Sequence[Reply]) -> Iterator[str]:
    if any(isinstance(reply, Result) for reply in replies):
        return
    for reply in replies:
        yield from _intolerable(_name(sent), reply, sent.tolerated)


def _intolerable(what: str, reply: Reply, tolerated: Iterable[int]) -> Iterator[str]:
    if isinstance(reply, Rejection) and reply.code not in tolerated:
        yield f"{what} was rejected with {reply.code}: {reply.detail}"


def _has_to_be_logged(sent: Sent, history: History) -> bool:
    return sent.acknowledged_s is not None and sent.acknowledged_s > history.rows_lost_until_s


def _by_mark(found: Iterable[Row | Heard]) -> defaultdict[tuple[str, bytes], list[Row | Heard]]:
    by_mark: defaultdict[tuple[str, bytes], list[Row | Heard]] = defaultdict(list)
    for one in found:
        if one.correlation is not None:
            by_mark[one.reply.tenant, one.correlation].append(one)
    return by_mark


def _marked_by_what_was_heard(history: History) -> list[Row]:
    """The rows, those of requests that were turned away at the door with their reply's mark.

    What a flood brings is not looked at closely enough to be logged with it.
    """
    marks = {(one.reply.tenant, one.reply.id): one.correlation for one in history.heard}
    return [
        replace(row, correlation=marks.get((row.reply.tenant, row.reply.id)))
        if row.correlation is None and isinstance(row.reply, Rejection)
        else row
        for row in history.rows
    ]


def _place(reply: Reply) -> tuple[str, str | None]:
    return reply.tenant, reply.stream


def _name(sent: Sent) -> str:
    mark = "" if sent.correlation is None else sent.correlation.decode(errors="replace")
    return f"the request {mark} of {sent.tenant}"
