"""The intake's thread: turns requests into tasks, and pushed policies into what is in force."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from typing_extensions import Self

from appliance import frames
from appliance.duplicates import InHand, key_of, may_be_logged
from appliance.errors import (
    Code,
    DatabaseDamaged,
    EngineClosed,
    EngineError,
    Rejected,
    StoreError,
)
from appliance.frame_memory import FrameMemory
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
from appliance.opener import Opened
from appliance.parking import Parking
from appliance.policy_book import PolicyBook
from appliance.quantities import Dimension, format_quantity
from appliance.reader import Reader
from appliance.shelf import EngineShelf, StageFailed
from appliance.task import Task
from appliance.topics import RESERVED
from appliance.upkeep import Upkeep

_log = logging.getLogger(__name__)

QOS_0_PLACES = 64
"""How many requests may wait to be decoded before more of QoS 0 are turned away."""

QOS_1_PLACES = 10_000
"""The same for QoS 1: as many as a broker keeps for an appliance that is away (Mosquitto's
`max_queued_messages` in deploy/mosquitto). Mosquitto 2.0.11 sends more than the Receive Maximum
once the first are acknowledged; a backlog that it promised to keep is not turned away for that.
Their bytes are bounded by the frame memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyStart:
    """A policy that was there before anything arrived, and how it is put in force."""

    tenant: str
    put_in_force: Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Checked:
    """A request that is no duplicate."""

    arrival: Arrival
    key: RequestKey | None

    @property
    def tenant(self) -> str:
        return self.arrival.request.tenant


_Waiting = _Checked | PolicyPush | PolicyStart
"""What may have to wait for an engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """Another database has come in the place of the one that was in use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatesDue:
    """Policy states that were beyond their tenants' quota may be told by now."""


_Item = (
    Arrival | PolicyPush | PolicyStart | CommandPush | Opened | StageFailed | Restored | StatesDue
)


class Intake:
    """Owns the thread that decodes frames, finds duplicates and puts policies in force.

    What needs an engine that is being opened waits for it, and all that comes later from the same
    tenant behind it; other tenants' requests go on. `reject` is called with a request that gets
    no answer, `repeat` with one whose answer is in the log already, `report` with a policy push
    and `obey` with a command that are next, `tell_owed` where states are owed, and `restored` gives
    the policies of a restored database; all in this thread. `suspect` is told of damage that was
    met.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        loop: ExecutorLoop,
        book: PolicyBook,
        shelf: EngineShelf,
        upkeep: Upkeep,
        in_hand: InHand,
        memory: FrameMemory,
        database: Path,
        limits: frames.Limits,
        reject: Callable[[Request, RequestKey | None, Rejected], None],
        repeat: Callable[[Request, Reply], None],
        report: Callable[[PolicyPush], None],
        tell_owed: Callable[[], None],
        obey: Callable[[CommandPush], None],
        restored: Callable[[], Sequence[PolicyStart]],
        suspect: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._book = book
        self._shelf = shelf
        self._upkeep = upkeep
        self._in_hand = in_hand
        self._memory = memory
        self._database = database
        self._limits = limits
        self._reject = reject
        self._repeat = repeat
        self._report = report
        self._tell_owed = tell_owed
        self._obey = obey
        self._restored = restored
        self._suspect = suspect
        self._inbox: SimpleQueue[_Item | None] = SimpleQueue()
        self._parking: Parking[_Waiting] = Parking()
        self._thread = threading.Thread(target=self._run, name="intake")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(None)
        self._thread.join()

    def put(self, item: _Item) -> None:
        """Takes something in without waiting; Rejected where there is no room for it.

        The Receive Maximum holds back what comes with QoS 1, so that it is mostly a flood of QoS 0
        that is turned away here. Policies and commands of QoS 1 always find room.
        """
        if isinstance(item, Arrival):
            places = QOS_1_PLACES if item.request.qos else QOS_0_PLACES
            if self._inbox.qsize() + len(self._parking) >= places:
                raise Rejected(Code.TOO_MANY, "too many frames wait to be decoded: send less")
        self._hold(*_weight_of(item))
        self._inbox.put(item)

    def _hold(self, tenant: str, size_bytes: int) -> None:
        if not self._memory.take(tenant, size_bytes):
            raise Rejected(
                Code.TOO_MANY,
                "what waits takes all the memory that this tenant may have of it: send"
                " less, or give frames more (DELEN_FRAME_MEMORY)",
            )

    def _release(self, item: _Item) -> None:
        self._memory.give_back(*_weight_of(item))

    def start_with(self, policies: Sequence[PolicyStart]) -> None:
        """Puts policies in force, and waits for their engines; before this is entered."""
        for policy in policies:
            self._attempt(policy)
        while len(self._parking):
            item = self._inbox.get()
            if isinstance(item, Opened):
                self._take_in(item)

    def _run(self) -> None:
        with Reader(self._database) as reader:
            ending = False
            # What waits for an engine when the end comes is still answered.
            while not ending or len(self._parking):
                item = self._inbox.get()
                if item is None:
                    ending = True
                elif isinstance(item, Arrival):
                    self._take(item, reader)
                elif isinstance(item, CommandPush):
                    self._obey(item)
                    self._release(item)
                elif isinstance(item, Opened):
                    self._take_in(item)
                elif isinstance(item, StageFailed):
                    self._upkeep.stage_failed(item)
                elif isinstance(item, StatesDue):
                    self._tell_owed()
                elif isinstance(item, Restored):
                    for policy in self._restored():
                        self._attempt(policy)
                else:
                    self._attempt(item)

    def _take(self, arrival: Arrival, reader: Reader) -> None:
        key, request = key_of(arrival.request, arrival.payload), arrival.request
        try:
            is_new = key is None or self._is_new(request, key, reader)
        except Rejected as rejected:
            is_new = False
            self._reject(request, None, rejected)
        if is_new:
            self._attempt(_Checked(arrival=arrival, key=key))
        else:
            self._release(arrival)

    def _take_in(self, opened: Opened) -> None:
        name = opened.engine.name
        self._upkeep.opened(opened)
        for item in self._parking.release(name):
            self._attempt(item)
        self._upkeep.settle(name)

    def _attempt(self, item: _Waiting) -> None:
        """Deals with something, or has it wait for the engine that it needs."""
        if self._parking.holds(item.tenant):
            self._parking.park_behind(item.tenant, item)
            return
        try:
            if isinstance(item, PolicyPush):
                self._report(item)
                self._release(item)
            elif isinstance(item, PolicyStart):
                item.put_in_force()
            else:
                self._submit(item)
        except EngineClosed as closed:
            self._parking.park(item.tenant, item, engine=closed.engine)

    def _submit(self, checked: _Checked) -> None:
        try:
            task = self._task(checked.arrival, checked.key)
        except Rejected as rejected:
            self._release(checked.arrival)
            self._reject(checked.arrival.request, checked.key, rejected)
        else:
            self._release(checked.arrival)
            self._loop.submit(task)

    def _is_new(self, request: Request, key: RequestKey, reader: Reader) -> bool:
        if key.correlation is not None and not self._in_hand.enter(key, request):
            return False
        logged = self._find(reader, key) if may_be_logged(request) else None
        # Who publishes again after a rejection wants it tried again; a broker that redelivers
        # does not.
        if logged is None or not (isinstance(logged, Result) or request.redelivered):
            return True
        self._in_hand.leave(key)
        self._repeat(request, logged)
        return False

    def _find(self, reader: Reader, key: RequestKey) -> Reply | None:
        try:
            return reader.find(key)
        except StoreError as error:
            # Better answered a second time than not at all.
            _log.warning("the log cannot be asked for a duplicate: %s", error)
            if isinstance(error, DatabaseDamaged):
                self._suspect(str(error))
            return None

    def _task(self, arrival: Arrival, key: RequestKey | None) -> Task:
        if arrival.refusal is not None:
            raise arrival.refusal
        plan = self._book.plan(arrival.request.tenant)
        task = Task(request=arrival.request, key=key, plan=plan, features=None)
        self._require_open(task)
        engine = plan.engine
        task.features = frames.decode(
            arrival.payload, arrival.content_type, engine.input, engine.kind, self._limits
        )
        self._hold(arrival.request.tenant, task.features.nbytes)
        task.frame_bytes = task.features.nbytes
        return task

    def _require_open(self, task: Task) -> None:
        """Raises EngineClosed where a task must wait for its engine, Rejected where it can not."""
        try:
            self._shelf.engine(task.plan.engine.name)
        except EngineError as error:
            raise Rejected(Code.ENGINE_FAILED, str(error)) from error
        except EngineClosed as closed:
            bound_s = task.response_time_bound_s
            if bound_s is None or closed.opens_in_s < bound_s:
                raise
            opens_in = format_quantity(closed.opens_in_s, Dimension.TIME)
            raise Rejected(
                Code.TOO_MANY,
                f"{closed}, which takes some {opens_in}, and its bound is"
                f" {format_quantity(bound_s, Dimension.TIME)}: send again then, or give engines"
                " more room (DELEN_ENGINE_MEMORY)",
            ) from closed


def _weight_of(item: _Item) -> tuple[str, int]:
    """Whose memory something takes while it waits, and how many bytes of it."""
    if isinstance(item, Arrival):
        return item.request.tenant, len(item.payload)
    if isinstance(item, PolicyPush) and not item.delivery:
        return item.tenant, len(item.document)
    if isinstance(item, CommandPush) and not item.delivery:
        return RESERVED, len(item.payload)
    return RESERVED, 0
