"""`delen send`: files published as frames, and what comes back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from appliance.connection import BrokerAddress
from appliance.errors import DelenError
from appliance.frame_files import SUFFIXES, frames_in
from appliance.messages import REPLY, Reply, Result
from appliance.session import Session
from appliance.settings import read_settings
from appliance.topics import level_fault, tenant_fault

IN_FLIGHT = 8
"""How many frames are on their way at a time: less than a tenant's queue holds by default."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a file: its reply, or None where there was none in time."""

    path: Path
    reply: Reply | None


def register(app: typer.Typer) -> None:
    app.command()(send)


def _tenant(name: str) -> str:
    fault = tenant_fault(name)
    if fault is not None:
        raise typer.BadParameter(f"{name!r} cannot stand in a topic as a tenant: {fault}")
    return name


def _level(name: str | None) -> str | None:
    fault = None if name is None else level_fault(name)
    if fault is not None:
        raise typer.BadParameter(f"{name!r} cannot stand in a topic: {fault}")
    return name


def send(
    tenant: Annotated[str, typer.Argument(callback=_tenant, help="the tenant's name")],
    paths: Annotated[
        list[Path],
        typer.Argument(exists=True, metavar="PATH", help="files, or folders of frames"),
    ],
    stream: Annotated[
        str | None, typer.Option(callback=_level, help="the stream they belong to")
    ] = None,
    content_type: Annotated[
        str | None, typer.Option(help="what they are; by default their first bytes say it")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="seconds to wait for each reply")] = 10.0,
    repeat_count: Annotated[
        int, typer.Option("--repeat", min=1, help="how often all of them are sent")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines: a reply per line, with the file's path")
    ] = False,
) -> None:
    """Send files as frames and print what is answered, as it comes.

    Folders are searched for JPEG, PNG, NPY and WAV files. Exit code 1 where a frame was rejected
    or not answered in time.
    """
    frames = frames_in(paths)
    if not frames:
        raise DelenError(f"no frames there: none of {', '.join(sorted(SUFFIXES))} in the folders")
    settings = read_settings()
    answers: list[Answer] = []
    with Session(BrokerAddress.of(settings), prefix=settings.topic_prefix) as client:
        sent = chain.from_iterable(repeat(frames, repeat_count))
        for answer in exchange(
            client, tenant, sent, stream=stream, content_type=content_type, timeout_s=timeout
        ):
            answers.append(answer)
            print(_json_of(answer) if as_json else _line_of(answer), flush=True)
    _summarise(answers, tenant)
    if not all(isinstance(answer.reply, Result) for answer in answers):
        raise typer.Exit(1)


def exchange(
    client: Session,
    tenant: str,
    paths: Iterable[Path],
    *,
    stream: str | None = None,
    content_type: str | None = None,
    timeout_s: float,
) -> Iterator[Answer]:
    """Sends files, several at a time, and yields what becomes of each as soon as it is known.

    Raises DelenError for a file that cannot be read.
    """
    left = iter(paths)
    waiting: dict[Future[Reply], tuple[Path, float]] = {}
    while True:
        for path in islice(left, IN_FLIGHT - len(waiting)):
            reply = client.submit(tenant, _read(path), content_type=content_type, stream=stream)
            waiting[reply] = path, time.monotonic() + timeout_s
        if not waiting:
            return
        next_deadline_s = min(deadline_s for _, deadline_s in waiting.values())
        left_s = max(0.0, next_deadline_s - time.monotonic())
        done, _ = wait(waiting, timeout=left_s, return_when=FIRST_COMPLETED)
        for reply in done:
            yield Answer(waiting.pop(reply)[0], reply.result())
        now_s = time.monotonic()
        for reply in [reply for reply, (_, deadline_s) in waiting.items() if deadline_s <= now_s]:
            reply.cancel()
            yield Answer(waiting.pop(reply)[0], None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DelenError(f"{path} cannot be read: {error.strerror}") from error


def _json_of(answer: Answer) -> str:
    if answer.reply is None:
        return json.dumps({"path": str(answer.path), "status": "unanswered"})
    return json.dumps({"path": str(answer.path), **REPLY.dump_python(answer.reply, mode="json")})


def _line_of(answer: Answer) -> str:
    reply = answer.reply
    if reply is None:
        return f"{answer.path}: no reply in time"
    if not isinstance(reply, Result):
        return f"{answer.path}: rejected, {reply.code} {reply.reason}: {reply.detail}"
    unmet = f", unmet: {', '.join(reply.unmet)}" if reply.unmet else ""
    return (
        f"{answer.path}: {reply.label} ({reply.confidence:.0%}) at exit {reply.exit}"
        f" after {reply.response_time_ms:.1f} ms, stopped by {reply.stopped_by}{unmet}"
    )


def _summarise(answers: list[Answer], tenant: str) -> None:
    times_ms = [a.reply.response_time_ms for a in answers if isinstance(a.reply, Result)]
    unanswered = sum(answer.reply is None for answer in answers)
    rejected = len(answers) - len(times_ms) - unanswered
    summary = f"{len(answers)} sent, {len(times_ms)} answered"
    summary += f", {rejected} rejected" * bool(rejected)
    summary += f", {unanswered} without a reply" * bool(unanswered)
    if times_ms:
        p50_ms, p99_ms = np.percentile(times_ms, (50, 99))
        summary += f"; response time p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"
    print(summary, file=sys.stderr)
    if unanswered == len(answers):
        question = f"is an appliance online, and may this user publish for the tenant {tenant}?"
        print(question, file=sys.stderr)
