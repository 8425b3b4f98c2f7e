"""Publishes telemetry: gathers what each part knows, and tells of it together."""

from __future__ import annotations

from appliance.orders import Orders
from appliance.sources import Sources
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
    """Tells of the tenants and of the appliance, each on its topic, since it last did."""

    def __init__(
        self, sources: Sources, *, topics: Topics, windows: Windows, orders: Orders
    ) -> None:
        self._sources = sources
        self._topics = topics
        self._windows = windows
        self._orders = orders
        self._started_s = self._told_s = sources.clock()

    def tell(self) -> None:
        """Publishes telemetry on the time since it was last told."""
        sources = self._sources
        now_s = sources.clock()
        window_s, self._told_s = now_s - self._told_s, now_s
        plans = sources.plans()
        windows, strangers = self._windows.take_out(), self._windows.take_strangers()
        queues = sources.loop.call(sources.scheduler.room.queue_lengths)
        accounts = sources.loop.call(lambda: sources.bookkeeper.tenants(plans))
        # Whoever has no policy is told of in no telemetry: anybody may make up tenants' names.
        told = {tenant: windows.get(tenant, Window()) for tenant in plans}
        for tenant, window in told.items():
            self._tell_of(tenant, window, window_s, accounts[tenant], queues.get(tenant, 0))
        energy, device_budget, idle_w = sources.loop.call(self._energy)
        backends = sources.shelf.backends()
        summary = ApplianceTelemetry(
            appliance=sources.appliance,
            window_s=round(window_s, 3),
            uptime_s=round(now_s - self._started_s, 3),
            engines=tuple(backends),
            backends=backends,
            out_of_service=sources.shelf.out_of_service(),
            meter=sources.sampler.status().name,
            power=self._power(idle_w),
            energy=energy,
            device_budget=device_budget,
            command_failure=self._orders.failure,
            queue_length=sum(queues.values()),
            unlogged=sources.store.turned_away,
            unsent=sources.gateway.unsent,
            frame_bytes=sources.memory.held_bytes,
            strangers=strangers,
            log_failure=sources.store.failed,
            database_mishap=sources.store.mishap,
            id_conflict=sources.gateway.id_conflict,
            tenants={tenant: window.replies() for tenant, window in told.items()},
        )
        topic = self._topics.appliance_telemetry(sources.appliance)
        sources.gateway.publish_telemetry(topic, APPLIANCE_TELEMETRY.dump_json(summary))

    def _tell_of(
        self, tenant: str, window: Window, window_s: float, account: TenantAccount, queued: int
    ) -> None:
        reading = window.telemetry(
            tenant,
            appliance=self._sources.appliance,
            window_s=window_s,
            account=account,
            queue_length=queued,
        )
        topic = self._topics.telemetry(tenant, self._sources.appliance)
        self._sources.gateway.publish_telemetry(topic, TENANT_TELEMETRY.dump_json(reading))

    def _energy(self) -> tuple[EnergyTelemetry, BudgetTelemetry | None, float | None]:
        """The joules, the device's budget and the idle baseline; in the executor's thread."""
        books = self._sources.bookkeeper
        device = BudgetTelemetry.of(books.budgets.whole_device(self._sources.clock()))
        return books.totals(), device, books.energy.idle_w

    def _power(self, idle_w: float | None) -> PowerTelemetry:
        status = self._sources.sampler.status()
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
