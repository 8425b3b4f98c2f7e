"""How the appliance stands at one moment, as monitoring systems are told of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, field

from appliance.agreement import AgreementEstimate
from appliance.budgets import Balance
from appliance.energy import IDLE, UNATTRIBUTED, Spent
from appliance.metrics.counters import OTHER, Counters, Tally
from appliance.plan import Plan
from appliance.power.sampler import MeterStatus
from appliance.sources import Sources

LEAST_AGE_S = 0.25
"""Who asks again within this time is given what was found before."""

PATIENCE_S = 2.0
"""How long the executor's thread is waited for; after that what it last said is told again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantState:
    """How a tenant stands; what it has spent is in its tally."""

    policy_version: int
    bound_s: float | None
    """The bound on response time, that of the mode that the tenant is in."""
    budget: Balance | None = None
    """Its own budget, where it has one."""
    agreement: AgreementEstimate | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorState:
    """What belongs to the executor's thread, `at_s` in monotonic seconds."""

    at_s: float
    queues: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    """By account of the ledger, since the start."""
    idle_w: float | None = None
    device_budget: Balance | None = None
    tenants: Mapping[str, TenantState] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """How the appliance stood at one moment."""

    appliance: str
    age_s: float
    """How old the executor's part of it is: beyond a second, it hangs in a stage."""
    connected: bool
    """Whether the broker has it as online."""
    open_deliveries: int
    log_failed: bool
    database_damaged: bool
    """Whether its file was found damaged since the start, and another one gone on with."""
    unlogged: int
    unsent: int
    frame_bytes: int
    """What the frames that wait take in memory."""
    backends: Mapping[str, str]
    """What runs each of the engines that are open."""
    out_of_service: frozenset[str]
    meter: MeterStatus
    executor: ExecutorState
    tallies: Mapping[str, Tally]
    """By tenant, in the order of the plans; all others under `OTHER`."""

    def queue_lengths(self) -> dict[str, int]:
        """The requests that wait, by whoever has a tally."""
        lengths = dict.fromkeys(self.tallies, 0)
        for tenant, length in self.executor.queues.items():
            lengths[tenant if tenant in lengths else OTHER] += length
        return lengths

    def tenants(self) -> dict[str, TenantState]:
        """Who has both a tally and a policy."""
        states = self.executor.tenants
        return {tenant: states[tenant] for tenant in self.tallies if tenant in states}

    def used_j(self) -> dict[str, float]:
        """What the meter saw since the start, by what it went into."""
        spent = self.executor.spent
        tenants = [one for name, one in spent.items() if name not in (IDLE, UNATTRIBUTED)]
        return {
            "tenants": sum(one.measured_j for one in tenants),
            "idle": spent.get(IDLE, Spent()).measured_j,
            "unattributed": max(0.0, spent.get(UNATTRIBUTED, Spent()).measured_j),
        }


class Survey:
    """Takes snapshots for whoever asks, from any thread.

    The executor is asked between two stages and never waits itself. Asked often, it looks four
    times a second.
    """

    def __init__(self, sources: Sources, *, counters: Counters) -> None:
        self._sources = sources
        self._counters = counters
        # One takes a snapshot at a time, and the others have it too.
        self._turn = threading.Lock()
        self._asked_s: float | None = None
        self._executor = ExecutorState(at_s=sources.clock())

    def tenants(self) -> tuple[str, ...]:
        """Who has a policy in force."""
        return tuple(self._sources.plans())

    def take(self) -> Snapshot:
        """How the appliance stands now."""
        sources = self._sources
        with self._turn:
            self._ask_executor()
            executor = self._executor
            tallies = self._counters.copy(executor.spent)
        return Snapshot(
            appliance=sources.appliance,
            age_s=max(0.0, sources.clock() - executor.at_s),
            connected=sources.gateway.connected.is_set(),
            open_deliveries=sources.gateway.open_deliveries(),
            log_failed=sources.store.failed is not None,
            database_damaged=sources.store.mishap is not None,
            unlogged=sources.store.turned_away,
            unsent=sources.gateway.unsent,
            frame_bytes=sources.memory.held_bytes,
            backends=sources.shelf.backends(),
            out_of_service=frozenset(sources.shelf.out_of_service()),
            meter=sources.sampler.status(),
            executor=executor,
            tallies=tallies,
        )

    def _ask_executor(self) -> None:
        if self._asked_s is not None and self._sources.clock() - self._asked_s < LEAST_AGE_S:
            return
        # Where it hangs, what it last said is told again, and its age shows it.
        with suppress(futures.TimeoutError):
            self._executor = self._sources.loop.call(self._look, patience_s=PATIENCE_S)
        self._asked_s = self._sources.clock()

    def _look(self) -> ExecutorState:
        """In the executor's thread."""
        sources = self._sources
        now_s, books = sources.clock(), sources.bookkeeper
        return ExecutorState(
            at_s=now_s,
            queues=sources.scheduler.room.queue_lengths(),
            spent={
                account: Spent(measured_j=spent.measured_j, modelled_j=spent.modelled_j)
                for account, spent in books.energy.spent.items()
            },
            idle_w=books.energy.idle_w,
            device_budget=books.budgets.whole_device(now_s),
            tenants={tenant: self._state(plan, now_s) for tenant, plan in sources.plans().items()},
        )

    def _state(self, plan: Plan, now_s: float) -> TenantState:
        books = self._sources.bookkeeper
        in_mode = books.tenancy.in_mode(plan)
        return TenantState(
            policy_version=plan.policy.version,
            bound_s=in_mode.policy.bounds.response_time,
            budget=books.budgets.own(plan.policy, now_s),
            agreement=books.tenancy.steering.estimate(in_mode),
        )
