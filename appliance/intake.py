"""The intake's thread: turns requests into tasks, and pushed policies into what is in force."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from typing_extensions import Self

from appliance import frames
from appliance.duplicates import InHand, key_of, may_be_logged
from appliance.errors import Code, Rejected, StoreError
from appliance.loop import ExecutorLoop
from appliance.messages import (
    Arrival,
    CommandPush,
    PolicyPush,
    Reply,
    Request,
    RequestKey,
    Result,
)
from appliance.plan import Plan
from appliance.policy_book import PolicyBook
from appliance.reader import Reader
from appliance.task import Task

_log = logging.getLogger(__name__)

QOS_0_PLACES = 64
"""How many requests may wait to be decoded before more of QoS 0 are turned away."""

OVERSHOOT = 4
"""How many times the Receive Maximum may wait before requests of QoS 1 are turned away too: some
brokers (Mosquitto 2.0.11) send more than that once the first are acknowledged."""


class Intake:
    """Owns the thread that decodes frames, finds duplicates and puts policies in force.

    `reject` is called with a request that gets no answer, `repeat` with one whose answer is in
    the log already, `report` with a policy push and `obey` with a command that are next; all in
    this thread.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        loop: ExecutorLoop,
        book: PolicyBook,
        in_hand: InHand,
        database: Path,
        receive_maximum: int,
        limits: frames.Limits,
        reject: Callable[[Request, RequestKey | None, Rejected], None],
        repeat: Callable[[Request, Reply], None],
        report: Callable[[PolicyPush], None],
        obey: Callable[[CommandPush], None],
    ) -> None:
        self._loop = loop
        self._book = book
        self._in_hand = in_hand
        self._database = database
        self._qos_1_places = OVERSHOOT * receive_maximum + QOS_0_PLACES
        self._limits = limits
        self._reject = reject
        self._repeat = repeat
        self._report = report
        self._obey = obey
        self._inbox: SimpleQueue[Arrival | PolicyPush | CommandPush | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="intake")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inbox.put(None)
        self._thread.join()

    def put(self, item: Arrival | PolicyPush | CommandPush) -> None:
        """Takes something in without waiting; Rejected where there is no room for it.

        The Receive Maximum holds back what comes with QoS 1, so that it is mostly a flood of QoS 0
        that is turned away here. Policies and commands always find room.
        """
        if isinstance(item, Arrival):
            places = self._qos_1_places if item.request.qos else QOS_0_PLACES
            if self._inbox.qsize() >= places:
                raise Rejected(Code.TOO_MANY, "too many frames wait to be decoded: send less")
        self._inbox.put(item)

    def _run(self) -> None:
        with Reader(self._database) as reader:
            while (item := self._inbox.get()) is not None:
                if isinstance(item, PolicyPush):
                    self._report(item)
                elif isinstance(item, CommandPush):
                    self._obey(item)
                else:
                    self._take(item, reader)

    def _take(self, arrival: Arrival, reader: Reader) -> None:
        request = arrival.request
        key = key_of(request, arrival.payload)
        if key is not None and not self._is_new(request, key, reader):
            return
        try:
            task = self._task(arrival, key)
        except Rejected as rejected:
            self._reject(request, key, rejected)
        else:
            self._loop.submit(task)

    def _is_new(self, request: Request, key: RequestKey, reader: Reader) -> bool:
        if key.correlation is not None and not self._in_hand.enter(key, request):
            return False
        logged = _find(reader, key) if may_be_logged(request) else None
        # Who publishes again after a rejection wants it tried again; a broker that redelivers
        # does not.
        if logged is None or not (isinstance(logged, Result) or request.redelivered):
            return True
        self._in_hand.leave(key)
        self._repeat(request, logged)
        return False

    def _task(self, arrival: Arrival, key: RequestKey | None) -> Task:
        if arrival.refusal is not None:
            raise arrival.refusal
        plan = self._plan(arrival.request.tenant)
        engine = plan.engine
        frame = frames.decode(
            arrival.payload, arrival.content_type, engine.input, engine.kind, self._limits
        )
        return Task(request=arrival.request, key=key, plan=plan, features=frame)

    def _plan(self, tenant: str) -> Plan:
        plan = self._book.plans.get(tenant)
        if plan is None:
            raise Rejected(
                Code.NOT_FOUND,
                f"no policy is in force for the tenant {tenant!r}: push one to its policy/set",
            )
        return plan


def _find(reader: Reader, key: RequestKey) -> Reply | None:
    try:
        return reader.find(key)
    except StoreError as error:
        # Better answered a second time than not at all.
        _log.warning("the log cannot be asked for a duplicate: %s", error)
        return None
