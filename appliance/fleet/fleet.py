"""All appliances and tenants that were heard of: takes in messages, gives the picture."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.fleet.appliances import ApplianceView, Standing
from appliance.fleet.reports import (
    Departure,
    Received,
    Removal,
    Report,
    StatusReport,
    TenantReport,
    Unreadable,
    read_report,
)
from appliance.fleet.room import Room
from appliance.fleet.tenants import TenantView
from appliance.messages import PolicyState
from appliance.telemetry import ApplianceTelemetry, TenantTelemetry

MAX_APPLIANCES = 500
MAX_TENANTS = 2000
"""How many tenants are kept, each counted once for each appliance that serves it."""

MAX_HELD_BYTES = 16 * 1024 * 1024
"""How long the latest states and telemetry of all tenants together may be: twice the usual."""

MAX_FAULTS = 50
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultyMessage:
    """A message that could not be read, and why."""

    at_s: float
    topic: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Worst:
    """The tenant that keeps its bounds least."""

    tenant: str
    appliance: str
    bound_kept: float
    """The fraction of its latest answers that kept every bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The fleet in a few figures; those of appliances that are not online are left out."""

    standings: Counter[Standing]
    power_w: float | None
    """None where no meter can be read."""
    rate_per_s: float
    """Requests a second that were answered or rejected."""
    worst: Worst | None
    bounds_kept: Mapping[tuple[str, str], float]
    """What fraction of its latest answers each tenant kept its bounds, by appliance and tenant."""


class Fleet:
    """The picture. Times are seconds since the epoch, by the clock of whoever watches."""

    def __init__(self, *, prefix: str) -> None:
        self.appliances: dict[str, ApplianceView] = {}
        self.tenants: dict[tuple[str, str], TenantView] = {}
        """By appliance and tenant."""
        self.faults: deque[FaultyMessage] = deque(maxlen=MAX_FAULTS)
        """The latest messages that could not be read; the newest last."""
        self.faulty = 0
        """How many there were."""
        self.left_out = 0
        """How many messages were left out for want of room."""
        self.changes = 0
        """Grows whenever something changes, so that who draws can tell."""
        self._prefix = prefix
        self._appliance_room = Room[str](MAX_APPLIANCES, forget=self._forget)
        self._tenant_room = Room[tuple[str, str]](MAX_TENANTS, forget=self._forget_tenant)
        self._held_bytes: defaultdict[tuple[str, str], dict[type, int]] = defaultdict(dict)
        """How long the latest state and telemetry of each tenant are, by appliance and tenant."""
        self._all_held_bytes = 0

    def take(self, message: Received, now_s: float) -> None:
        """Takes a message in; one that cannot be read is noted as such."""
        self.changes += 1
        try:
            report = read_report(message, prefix=self._prefix)
        except Unreadable as error:
            self.faulty += 1
            topic = message.topic[:_SHOWN_CHARACTERS]
            sentence = str(error)[:_SHOWN_CHARACTERS]
            self.faults.append(FaultyMessage(at_s=now_s, topic=topic, sentence=sentence))
            return
        if not self._take(report, now_s, message):
            self.left_out += 1

    def tenants_of(self, appliance: str) -> list[TenantView]:
        """An appliance's tenants, by name."""
        found = [view for (name, _), view in self.tenants.items() if name == appliance]
        return sorted(found, key=lambda view: view.name)

    def views_of(self, tenant: str) -> list[TenantView]:
        """A tenant on every appliance that serves it, by the appliance's name."""
        found = [view for (_, name), view in self.tenants.items() if name == tenant]
        return sorted(found, key=lambda view: view.appliance)

    def summary(self, now_s: float) -> Summary:
        """The fleet as it stands now."""
        standings = {name: view.standing(now_s) for name, view in self.appliances.items()}
        online = [self.appliances[n] for n, s in standings.items() if s is Standing.ONLINE]
        powers = [view.power_w for view in online if view.power_w is not None]
        kept = {
            key: fraction
            for key, view in self.tenants.items()
            if (fraction := view.bound_kept(now_s)) is not None
        }
        worst = [
            Worst(tenant=tenant, appliance=appliance, bound_kept=fraction)
            for (appliance, tenant), fraction in kept.items()
            if standings.get(appliance) is Standing.ONLINE
        ]
        return Summary(
            standings=Counter(standings.values()),
            power_w=sum(powers) if powers else None,
            rate_per_s=sum(view.rate_per_s or 0.0 for view in online),
            worst=min(worst, key=lambda one: one.bound_kept, default=None),
            bounds_kept=kept,
        )

    def _take(self, report: Report, now_s: float, message: Received) -> bool:
        """Whether there was room for it."""
        retained = message.retained
        if isinstance(report, Departure):
            self._forget(report.appliance)
            return True
        appliance = self._appliance(report.appliance, now_s)
        if appliance is None:
            return False
        if isinstance(report, StatusReport):
            appliance.take_status(report.status, now_s, retained=retained)
            return True
        if isinstance(report, ApplianceTelemetry):
            appliance.take_telemetry(report, now_s)
            return True
        known = isinstance(report, Removal) or retained
        tenant = self._tenant(report.appliance, report.tenant, now_s)
        if tenant is None or not self._holds(report, len(message.payload)):
            return False
        appliance.heard_s = now_s
        match report:
            case TenantTelemetry():
                tenant.take_telemetry(report, now_s)
            case PolicyState():
                tenant.take_state(report, now_s, retained=known)
            case Removal():
                tenant.remove_policy(now_s)
            case _:
                tenant.take_reply(report, now_s)
                if not retained:
                    appliance.take_reply(report, now_s)
        return True

    def _appliance(self, name: str, now_s: float) -> ApplianceView | None:
        view = self.appliances.get(name)
        if view is None and self._appliance_room.is_there(self.appliances, now_s):
            view = self.appliances[name] = ApplianceView(name)
            view.heard_s = now_s
        return view

    def _tenant(self, appliance: str, name: str, now_s: float) -> TenantView | None:
        view = self.tenants.get((appliance, name))
        if view is None and self._tenant_room.is_there(self.tenants, now_s):
            view = self.tenants[appliance, name] = TenantView(name, appliance=appliance)
            view.heard_s = now_s
        return view

    def _forget(self, appliance: str) -> None:
        self.appliances.pop(appliance, None)
        for key in [key for key in self.tenants if key[0] == appliance]:
            self._forget_tenant(key)

    def _forget_tenant(self, key: tuple[str, str]) -> None:
        self.tenants.pop(key, None)
        self._all_held_bytes -= sum(self._held_bytes.pop(key, {}).values())

    def _holds(self, report: TenantReport, size_bytes: int) -> bool:
        """Whether there is room for a report that is kept until the next of its kind."""
        if not isinstance(report, PolicyState | TenantTelemetry):
            return True
        held_bytes = self._held_bytes[report.appliance, report.tenant]
        grown_bytes = size_bytes - held_bytes.get(type(report), 0)
        if self._all_held_bytes + grown_bytes > MAX_HELD_BYTES:
            return False
        held_bytes[type(report)] = size_bytes
        self._all_held_bytes += grown_bytes
        return True
