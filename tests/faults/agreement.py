"""Judges whether the messages, the log and what was sent agree with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf

from appliance.messages import Result
from tests.faults.history import Heard, History, Row

NOTHING_J = -1e-9
"""What is left of a sum that is nothing: floats do not come out to the last bit."""


def disagreements(history: History) -> Iterator[str]:
    """What is said in one place and not, or otherwise, in another."""
    yield from _of_messages_with_rows(history)
    yield from _of_rows_that_nobody_asked_for(history)
    yield from _of_streams(history)
    yield from _of_policies(history)
    yield from _of_joules(history)


def _of_messages_with_rows(history: History) -> Iterator[str]:
    """A message and its row are one reply; without a crash, no message is without a row.

    But where the log could not be asked, a request with a mark is answered twice, and logged once.
    """
    rows = {row.reply.id: row for row in history.rows}
    marks = {(row.reply.tenant, row.correlation) for row in history.rows if row.correlation}
    is_whole = history.ended and not history.appliance_killed and history.rows_lost_until_s == -inf
    for heard in history.heard:
        row = rows.get(heard.reply.id)
        if row is not None:
            yield from _difference(heard, row)
        elif is_whole and (heard.reply.tenant, heard.correlation) not in marks:
            yield f"the reply {heard.reply.id} on {heard.topic} is not in the log"


def _difference(heard: Heard, row: Row) -> Iterator[str]:
    if heard.reply != row.reply:
        yield f"the reply {heard.reply.id} is another on {heard.topic} than in the log"
    # Who is turned away at the door is logged without its mark.
    if row.correlation is not None and heard.correlation != row.correlation:
        yield f"the reply {heard.reply.id} went to another request than it is logged for"


def _of_rows_that_nobody_asked_for(history: History) -> Iterator[str]:
    marks = {(one.tenant, one.correlation) for one in history.sent}
    places = {(one.tenant, one.stream) for one in history.sent}
    for row in history.rows:
        reply = row.reply
        if isinstance(reply, Result) and (
            (reply.tenant, reply.stream) not in places
            or (reply.tenant, row.correlation) not in marks
        ):
            yield f"the log has the answer {reply.id} for {reply.tenant}, which nobody asked for"


def _of_streams(history: History) -> Iterator[str]:
    """A reply names its request's stream, and goes where one of its stream wants it."""
    streams = {one.correlation: one.stream for one in history.sent if one.correlation is not None}
    topics: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
    for one in history.sent:
        topics[one.tenant, one.stream].add(one.reply_topic)
    for heard in history.heard:
        reply = heard.reply
        what = f"the reply {reply.id} on {heard.topic}"
        if heard.correlation in streams and streams[heard.correlation] != reply.stream:
            yield f"{what} names the stream {reply.stream}, not its request's"
        elif heard.topic not in topics[reply.tenant, reply.stream]:
            yield f"{what} is nowhere that the stream {reply.stream} asked for"


def _of_policies(history: History) -> Iterator[str]:
    for tenant in history.in_force.keys() - {push.tenant for push in history.pushes}:
        yield f"a policy is in force for {tenant}, for which nobody pushed one"
    if history.rows_lost_until_s > -inf or history.forgotten:
        # From a backup an older one may come into force, until the retained one does; and a killed
        # broker tells what it had retained when it last saved.
        return
    latest: dict[str, int] = {}
    for told in history.told:
        before = latest.get(told.tenant, 0)
        if told.version is not None and told.version < before:
            yield f"{told.tenant} was told version {told.version} after version {before}"
        latest[told.tenant] = max(before, told.version or 0)


def _of_joules(history: History) -> Iterator[str]:
    for entry in history.ledger:
        if min(entry.reported_j, entry.measured_j, entry.modelled_j) < NOTHING_J:
            yield f"the ledger has less than nothing for {entry.account}"
    if history.appliance_killed:
        return
    for before, after in zip(history.joules, history.joules[1:], strict=False):
        if after.integrated_j < before.integrated_j:
            yield f"{after.integrated_j} J were measured, after {before.integrated_j} J"
