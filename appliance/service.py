"""The one place that builds the parts and runs them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

from typing_extensions import Self

from appliance import frames
from appliance.admission import Admission, Ceiling
from appliance.backends import choice
from appliance.bookkeeper import Bookkeeper
from appliance.budgets import Budgets
from appliance.connection import BrokerAddress
from appliance.dispatcher import Dispatcher
from appliance.duplicates import InHand
from appliance.energy import Energy
from appliance.engine import Engine
from appliance.errors import EngineError, Rejected
from appliance.executor import Executor
from appliance.frame_memory import FrameMemory
from appliance.gateway import Gateway
from appliance.health import Health
from appliance.initial_policies import policies_before_requests, restored_policies
from appliance.intake import Intake, Restored, StatesDue
from appliance.loop import ExecutorLoop
from appliance.messages import (
    Arrival,
    CommandPush,
    PolicyPush,
    Reply,
    RequestKey,
)
from appliance.metering import Metering
from appliance.metrics.counters import Counters
from appliance.metrics.survey import Survey
from appliance.opener import Opened, Opener
from appliance.openings import Openings
from appliance.orders import DEVICE_BUDGET, Orders
from appliance.outcomes import Outcomes
from appliance.plan import Plan
from appliance.policy_book import PolicyBook
from appliance.policy_states import PolicyStates
from appliance.reader import Reader
from appliance.rejection_quota import RejectionQuota
from appliance.safekeeping import Safekeeping
from appliance.settings import Settings
from appliance.shelf import EngineShelf, StageFailed
from appliance.sources import Sources
from appliance.store import Store
from appliance.teller import Teller
from appliance.tenancy import Tenancy
from appliance.topics import Topics
from appliance.upkeep import Upkeep
from appliance.windows import Windows

_log = logging.getLogger(__name__)

SHORTEST_GAP_S = 0.5
"""No less may lie between two readings before the time between counts as not measured."""


class Service:
    """An appliance: entered, it serves; left, it drains, says `stopped`, and ends its threads.

    `drain` is called where it is told to: it is to be left then. `hung` is called with a sentence
    where a stage hangs: then it cannot be left any more, and its process is to be ended. `turned`
    is told, on the network thread, how it stands with the broker where that has changed.
    """

    def __init__(
        self,
        settings: Settings,
        drain: Callable[[], None] = lambda: None,
        hung: Callable[[str], None] = lambda _sentence: None,
        turned: Callable[[Health], None] = lambda _health: None,
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.topic_prefix)
        self._parts = ExitStack()
        self._windows = Windows()
        self._counters = Counters(plans=lambda: self._book.plans, limit=settings.metrics_tenants)
        self._in_hand, self._memory = InHand(), FrameMemory(settings.frame_memory)

        # The edges, and what becomes of requests.
        self._gateway = self._new_gateway(turned)
        self._store = Store.of(
            settings, on_logged=self._logged, on_restored=lambda: self._intake.put(Restored())
        )
        self._safekeeping = Safekeeping.of(settings, changed=self._store.changed)
        self._outcomes = self._new_outcomes()

        # Stages, and the joules that they take.
        energy = Energy(max_gap_s=max(SHORTEST_GAP_S, 4 * settings.meter_interval))
        self._budgets = Budgets(energy=energy, weights=self._weights)
        self._tenancy = Tenancy(budgets=self._budgets)
        self._executor = Executor(time.monotonic, self._tenancy)
        self._dispatcher = self._new_dispatcher()
        self._scheduler = self._dispatcher.scheduler
        self._loop = self._new_loop(hung)
        self._metering = Metering(settings, loop=self._loop, tenancy=self._tenancy)
        self._bookkeeper = self._new_bookkeeper()

        # Engines, policies and commands.
        self._opener = self._new_opener()
        self._shelf = self._new_shelf()
        self._book = self._new_book()
        self._states = PolicyStates(
            gateway=self._gateway, known=lambda: self._book.plans, clock=time.monotonic
        )
        self._upkeep = Upkeep(shelf=self._shelf, book=self._book, tell=self._states.tell_of)
        self._orders = self._new_orders(drain)

        # What comes in, and what is told.
        self._admission = Admission(
            Ceiling(
                rate_per_s=settings.tenant_rate or math.inf,
                bytes_per_s=settings.tenant_bytes or math.inf,
            )
        )
        self._intake = self._new_intake()
        sources = self._sources()
        self._teller = Teller(
            sources, topics=self._topics, windows=self._windows, orders=self._orders
        )
        self.survey = Survey(sources, counters=self._counters)

    def __enter__(self) -> Self:
        # What takes requests in comes up last and goes down first; the gateway goes down last of
        # all, so that what is in flight is still answered and acknowledged.
        with ExitStack() as parts:
            parts.callback(self._gateway.close)
            parts.enter_context(self._store)
            parts.enter_context(self._safekeeping)
            self._restore_budgets()
            parts.callback(self._bookkeeper.write)
            parts.enter_context(self._loop)
            parts.enter_context(self._metering)
            parts.enter_context(self._opener)
            for found in policies_before_requests(self._settings, self._topics, self._book):
                self._intake.start_with(found)
            for state in self._book.states():
                self._states.tell_of(state)
            parts.callback(self._states.tell_rest)
            parts.enter_context(self._intake)
            parts.callback(self._gateway.drain)
            self._gateway.open()
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def wait_online(self, timeout_s: float) -> bool:
        """Waits until the broker has the appliance as online; false where that took too long."""
        return self._gateway.connected.wait(timeout_s)

    def open_deliveries(self) -> int:
        """How many requests and policies were received and not acknowledged yet."""
        return self._gateway.open_deliveries()

    def health(self) -> Health:
        """How it stands; returns only if the executor's thread does not hang."""
        self._loop.call(lambda: None)
        return self._standing()

    def _standing(self) -> Health:
        # The time first: what changes while it is read is told by a newer one.
        at_s = time.monotonic()
        trouble = "; ".join(filter(None, (self._gateway.trouble, self._store.failed)))
        return Health(well=not trouble, sentence=trouble or "online", at_s=at_s)

    def tell(self) -> None:
        """Publishes telemetry on the time since it was last told."""
        self._teller.tell()

    # Parts whose wiring takes a paragraph, in the order in which they are built.

    def _new_gateway(self, turned: Callable[[Health], None]) -> Gateway:
        return Gateway(
            broker=BrokerAddress.of(self._settings),
            topics=self._topics,
            appliance=self._settings.appliance_id,
            on_request=self._take_request,
            on_policy=self._take_push,
            on_command=self._take_push,
            on_trouble=lambda: turned(self._standing()),
            clock=time.monotonic,
            wall_clock=time.time,
            max_frame_bytes=int(self._settings.max_frame),
            receive_maximum=self._settings.receive_maximum,
            session_expiry_s=int(self._settings.session_expiry),
            cloud_events=self._settings.cloudevents,
        )

    def _new_outcomes(self) -> Outcomes:
        return Outcomes(
            appliance=self._settings.appliance_id,
            gateway=self._gateway,
            store=self._store,
            in_hand=self._in_hand,
            windows=self._windows,
            counters=self._counters,
            memory=self._memory,
            quota=RejectionQuota(self._settings.rejection_rate),
            known=lambda: self._book.plans,
            clock=time.monotonic,
            wall_clock=time.time,
        )

    def _new_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            executor=self._executor,
            clock=time.monotonic,
            finished=self._outcomes.finished,
            rejected=self._outcomes.task_rejected,
            unaffordable=self._outcomes.unaffordable,
            failed=self._stage_failed,
        )

    def _new_loop(self, hung: Callable[[str], None]) -> ExecutorLoop:
        return ExecutorLoop(
            dispatcher=self._dispatcher,
            tenancy=self._tenancy,
            clock=time.monotonic,
            tick=self._tick,
            stage_timeout_s=self._settings.stage_timeout,
            hung=hung,
        )

    def _new_bookkeeper(self) -> Bookkeeper:
        return Bookkeeper(
            tenancy=self._tenancy,
            keep=self._store.keep,
            can_keep=lambda: self._store.failed is None,
            clock=time.monotonic,
            wall_clock=time.time,
        )

    def _new_opener(self) -> Opener:
        settings = self._settings
        return Opener(
            loop=self._loop,
            executor=self._executor,
            dispatcher=self._dispatcher,
            new_backend=lambda engine: choice.opened(engine, settings.backend, settings.threads),
            openings=Openings(settings.database.with_name(f"{settings.database.name}.opening")),
            opened=self._take_opened,
            timeout_s=settings.opening_timeout,
        )

    def _new_shelf(self) -> EngineShelf:
        return EngineShelf(
            folder=self._settings.engines,
            plans=self._settings.plans,
            memory_bytes=self._settings.engine_memory or math.inf,
            opener=self._opener,
            clock=time.monotonic,
        )

    def _new_book(self) -> PolicyBook:
        return PolicyBook(
            appliance=self._settings.appliance_id,
            shelf=self._shelf,
            store=self._store,
            stage_times_s=self._opener.stage_times_s,
            publish=self._take_up_plans,
            wall_clock=time.time,
        )

    def _new_orders(self, drain: Callable[[], None]) -> Orders:
        return Orders(
            device_budget=self._settings.device_budget,
            budgets=self._budgets,
            loop=self._loop,
            store=self._store,
            upkeep=self._upkeep,
            drain=drain,
        )

    def _new_intake(self) -> Intake:
        settings = self._settings
        return Intake(
            loop=self._loop,
            book=self._book,
            shelf=self._shelf,
            upkeep=self._upkeep,
            in_hand=self._in_hand,
            memory=self._memory,
            database=settings.database,
            limits=frames.Limits(max_bytes=int(settings.max_frame)),
            reject=self._outcomes.reject,
            repeat=self._outcomes.repeat,
            report=self._push_policy,
            tell_owed=self._states.tell_owed,
            obey=self._obey,
            restored=partial(
                restored_policies, settings.database, self._book, self._orders, self._states.tell
            ),
            suspect=self._store.suspect,
        )

    def _sources(self) -> Sources:
        return Sources(
            appliance=self._settings.appliance_id,
            plans=lambda: self._book.plans,
            loop=self._loop,
            scheduler=self._scheduler,
            bookkeeper=self._bookkeeper,
            sampler=self._metering.sampler,
            shelf=self._shelf,
            store=self._store,
            gateway=self._gateway,
            memory=self._memory,
            clock=time.monotonic,
        )

    # A frame's way: the gateway hands it to the intake, the intake a task to the loop, and the
    # loop what came of it to the outcomes.

    def _take_request(self, arrival: Arrival) -> None:
        request, size_bytes = arrival.request, len(arrival.payload)
        try:
            # What the broker delivers again was let in before.
            if not request.redelivered:
                plans = self._book.plans
                self._admission.admit(request.tenant, size_bytes, plans, request.received_s)
            self._intake.put(arrival)
        except Rejected as rejected:
            self._outcomes.reject(request, None, rejected)

    def _logged(self, delivery: int, key: RequestKey | None, reply: Reply) -> None:
        """Called in the store's thread."""
        self._outcomes.logged(delivery, key, reply)

    # Energy.

    def _tick(self) -> None:
        self._bookkeeper.tick()
        self._outcomes.log_muted()
        if self._states.are_owed():
            self._intake.put(StatesDue())
        self._opener.sweep()
        self._metering.tick()
        plans, queues = self._executor.plans, self._scheduler.room.queue_lengths()
        for change in self._tenancy.adapt(plans, queues, time.monotonic()):
            before, after = change.before or "its policy", change.after or "its policy"
            _log.info("tenant %s goes from %s to %s", change.tenant, before, after)
        for tenant in self._tenancy.steer(plans, queues, time.monotonic()):
            _log.warning("tenant %s: its frames have changed; none leaves early for now", tenant)

    def _weights(self) -> dict[str, float]:
        return {tenant: plan.policy.weight for tenant, plan in self._executor.plans.items()}

    def _restore_budgets(self) -> None:
        with Reader(self._settings.database) as reader:
            self._bookkeeper.restore(reader.budgets())
            self._orders.restore(reader.command(DEVICE_BUDGET))

    # Engines and commands.

    def _stage_failed(self, engine: Engine, error: EngineError) -> None:
        """Called in the executor's thread, which goes on."""
        self._intake.put(StageFailed(engine=engine, error=error, at_s=time.monotonic()))

    def _take_opened(self, opened: Opened) -> None:
        """Called in the opener's thread."""
        self._intake.put(opened)

    def _obey(self, push: CommandPush) -> None:
        self._orders.obey(push.payload)
        self._gateway.settled(push.delivery)

    # Policies.

    def _take_up_plans(self, plans: Mapping[str, Plan]) -> None:
        self._executor.plans = plans

    def _take_push(self, push: PolicyPush | CommandPush) -> None:
        try:
            self._intake.put(push)
        except Rejected as rejected:
            _log.error("a policy or a command of QoS 0 is dropped: %s", rejected)

    def _push_policy(self, push: PolicyPush) -> None:
        state = self._book.push(push.tenant, push.document, retained=push.retained)
        self._states.tell(push.tenant, state, push.delivery)
        self._gateway.logged(push.delivery)
