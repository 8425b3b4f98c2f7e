"""Publishes telemetry: gathers what each part knows, and tells of it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.bookkeeper import Bookkeeper
from appliance.frame_memory import FrameMemory
from appliance.gateway import Gateway
from appliance.loop import ExecutorLoop
from appliance.orders import Orders
from appliance.plan import Plan
from appliance.power.sampler import Sampler
from appliance.scheduler import Scheduler
from appliance.shelf import EngineShelf
from appliance.store import Store
from appliance.telemetry import (
    APPLIANCE_TELEMETRY,
    TENANT_TELEMETRY,
    ApplianceTelemetry,
    BudgetTelemetry,
    EnergyTelemetry,
    PowerTelemetry,
)
from appliance.topics import Topics
from appliance.windows import TenantAccount, Window, Windows


class Teller:
    """Tells of the tenants and of the appliance, each on its topic, since it last did.

    `plans` gives what is in force. What belongs to the executor's thread is asked for in it.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        appliance: str,
        topics: Topics,
        windows: Windows,
        plans: Callable[[], Mapping[str, Plan]],
        shelf: EngineShelf,
        orders: Orders,
        loop: ExecutorLoop,
        scheduler: Scheduler,
        bookkeeper: Bookkeeper,
        sampler: Sampler,
        store: Store,
        gateway: Gateway,
        memory: FrameMemory,
        clock: Callable[[], float],
    ) -> None:
        self._appliance = appliance
        self._topics = topics
        self._gateway = gateway
        self._memory = memory
        self._windows = windows
        self._plans = plans
        self._shelf = shelf
        self._orders = orders
        self._loop = loop
        self._scheduler = scheduler
        self._bookkeeper = bookkeeper
        self._sampler = sampler
        self._store = store
        self._clock = clock
        self._started_s = self._told_s = clock()

    def tell(self) -> None:
        """Publishes telemetry on the time since it was last told."""
        now_s = self._clock()
        window_s, self._told_s = now_s - self._told_s, now_s
        plans = self._plans()
        windows, strangers = self._windows.take_out(), self._windows.take_strangers()
        queues = self._loop.call(self._scheduler.room.queue_lengths)
        accounts = self._loop.call(lambda: self._bookkeeper.tenants(plans))
        # Whoever has no policy is told of in no telemetry: anybody may make up tenants' names.
        told = {tenant: windows.get(tenant, Window()) for tenant in plans}
        for tenant, window in told.items():
            self._tell_of(tenant, window, window_s, accounts[tenant], queues.get(tenant, 0))
        energy, device_budget, idle_w = self._loop.call(self._energy)
        backends = self._shelf.backends()
        summary = ApplianceTelemetry(
            appliance=self._appliance,
            window_s=round(window_s, 3),
            uptime_s=round(now_s - self._started_s, 3),
            engines=tuple(backends),
            backends=backends,
            out_of_service=self._shelf.out_of_service(),
            meter=self._sampler.status().name,
            power=self._power(idle_w),
            energy=energy,
            device_budget=device_budget,
            command_failure=self._orders.failure,
            queue_length=sum(queues.values()),
            unlogged=self._store.turned_away,
            unsent=self._gateway.unsent,
            frame_bytes=self._memory.held_bytes,
            strangers=strangers,
            log_failure=self._store.failed,
            database_mishap=self._store.mishap,
            id_conflict=self._gateway.id_conflict,
            tenants={tenant: window.replies() for tenant, window in told.items()},
        )
        topic = self._topics.appliance_telemetry(self._appliance)
        self._gateway.publish_telemetry(topic, APPLIANCE_TELEMETRY.dump_json(summary))

    def _tell_of(
        self, tenant: str, window: Window, window_s: float, account: TenantAccount, queued: int
    ) -> None:
        reading = window.telemetry(
            tenant,
            appliance=self._appliance,
            window_s=window_s,
            account=account,
            queue_length=queued,
        )
        topic = self._topics.telemetry(tenant, self._appliance)
        self._gateway.publish_telemetry(topic, TENANT_TELEMETRY.dump_json(reading))

    def _energy(self) -> tuple[EnergyTelemetry, BudgetTelemetry | None, float | None]:
        """The joules, the device's budget and the idle baseline; in the executor's thread."""
        books = self._bookkeeper
        device = BudgetTelemetry.of(books.budgets.whole_device(self._clock()))
        return books.totals(), device, books.energy.idle_w

    def _power(self, idle_w: float | None) -> PowerTelemetry:
        status = self._sampler.status()
        reading = status.reading
        if reading is None:
            return PowerTelemetry(meter=status.name, failure=status.failure)
        return PowerTelemetry(
            meter=status.name,
            failure=None,
            power_w=round(reading.total_w, 3),
            total_of=reading.total_of,
            idle_w=None if idle_w is None else round(idle_w, 3),
            rails_w=reading.rails_w,
            temperatures_c=reading.temperatures_c,
        )
