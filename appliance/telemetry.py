"""Telemetry as on the wire: what is told of the last few seconds, by tenant and of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from appliance.agreement import AgreementEstimate
from appliance.budgets import Balance
from appliance.goals import Effort
from appliance.policy import Bounds


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetTelemetry:
    """How a budget stands, as on the wire."""

    energy_j: float
    per_s: float
    left_j: float
    remaining: float
    """The fraction that is left."""
    ends_in_s: float

    @classmethod
    def of(cls, balance: Balance | None) -> BudgetTelemetry | None:
        """A balance in figures to be read; None for none."""
        if balance is None:
            return None
        return cls(
            energy_j=balance.energy_j,
            per_s=balance.per_s,
            left_j=round(balance.left_j, 6),
            remaining=round(balance.remaining, 4),
            ends_in_s=round(balance.ends_in_s, 3),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerTelemetry:
    """What the meter says now, as on the wire; without one only its name and why."""

    meter: str
    failure: str | None
    power_w: float | None = None
    total_of: tuple[str, ...] = ()
    idle_w: float | None = None
    rails_w: Mapping[str, float] = field(default_factory=dict)
    temperatures_c: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyTelemetry:
    """Joules since the start, as on the wire: the first three make up what the meter saw."""

    tenants_j: float
    idle_j: float
    unattributed_j: float
    integrated_j: float
    modelled_j: float
    """What tenants were charged by the profiles, while no meter could be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementTelemetry:
    """How often answers agree with the last exit, as on the wire; each end holds with 95 %."""

    agreement: float
    low: float
    high: float
    samples: int
    thresholds: tuple[float, ...] | None
    """On the expected accuracy at each exit but the last; None while nothing leaves early."""
    alarms: int
    """How often the frames were found to have changed, since the start."""

    @classmethod
    def of(cls, estimate: AgreementEstimate | None) -> AgreementTelemetry | None:
        """An estimate in figures to be read; None for none."""
        if estimate is None:
            return None
        thresholds = estimate.thresholds
        return cls(
            agreement=round(estimate.agreement, 5),
            low=round(estimate.low, 5),
            high=round(estimate.high, 5),
            samples=estimate.samples,
            thresholds=None if thresholds is None else tuple(round(t, 5) for t in thresholds),
            alarms=estimate.alarms,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EffortTelemetry:
    """How deep a goal lets requests go at the moment, as on the wire."""

    leave_at: float | None
    """The expected accuracy at which a request leaves; None for none."""
    deepest_exit: int

    @classmethod
    def of(cls, effort: Effort | None) -> EffortTelemetry | None:
        """An effort in figures to be read; None where there is no goal."""
        if effort is None:
            return None
        leave_at = round(effort.leave_at, 5) if effort.leave_at <= 1.0 else None
        return cls(leave_at=leave_at, deepest_exit=effort.deepest)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundsTelemetry:
    """The bounds in force, those of the mode that the tenant is in, as on the wire."""

    response_time_ms: float | None = None
    energy_mj: float | None = None
    accuracy: float | None = None
    agreement: float | None = None

    @classmethod
    def of(cls, bounds: Bounds) -> BoundsTelemetry:
        """A policy's bounds in figures to be read."""
        return cls(
            response_time_ms=_milli(bounds.response_time),
            energy_mj=_milli(bounds.energy),
            accuracy=bounds.accuracy,
            agreement=bounds.agreement,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantTelemetry:
    """One tenant's last window, as on the wire."""

    tenant: str
    appliance: str
    window_s: float
    answered: int
    rejected: int
    rate_per_s: float
    exits: Mapping[str, int]
    rejections: Mapping[str, int]
    response_time_ms: Mapping[str, float]
    energy_mj: float
    """The sum of what its results said."""
    energy_source: str
    """That of most of them."""
    spent_mj: float
    """What its stages were charged, by the meter as far as it saw them."""
    charged_j: float
    """The same since the start, but for what no meter has seen yet and may still see."""
    last_label: str | None
    """What the last answer in the window said."""
    budget: BudgetTelemetry | None
    mode: str | None
    """The mode that it is in, None for the policy itself."""
    device_budget: BudgetTelemetry | None
    """What this tenant may still spend of the device's budget."""
    agreement: AgreementTelemetry | None
    effort: EffortTelemetry | None
    queue_length: int
    muted: int
    """Those of the rejections that it was not sent: it had its quota of them already."""
    policy_version: int | None = None
    bounds: BoundsTelemetry = BoundsTelemetry()
    bound_kept: float | None = None
    """The fraction of its answers that kept every bound; None where there are none."""
    confidence: float | None = None
    """The mean of its answers' confidences; None where there are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplianceTelemetry:
    """The appliance's last window, as on the wire."""

    appliance: str
    window_s: float
    uptime_s: float
    engines: tuple[str, ...]
    """Those that are open."""
    backends: Mapping[str, str]
    """What runs each of the engines."""
    out_of_service: Mapping[str, str]
    """The engines that serve nobody any more, and why."""
    meter: str
    power: PowerTelemetry
    energy: EnergyTelemetry
    device_budget: BudgetTelemetry | None
    command_failure: str | None
    """Why the last command was turned away, or could not be carried out."""
    queue_length: int
    unlogged: int
    """Replies of QoS 0 that the log had no room for, since the start."""
    unsent: int
    """Replies and readings of QoS 0 that the broker did not take, since the start."""
    frame_bytes: int
    """What the frames that wait take in memory."""
    strangers: int
    """Requests of tenants without a policy."""
    log_failure: str | None
    database_mishap: str | None
    """What became of the database's file that was last found damaged, since the start."""
    tenants: Mapping[str, int]
    """How many requests of each tenant were dealt with."""
    id_conflict: str | None = None
    """That another client goes by this appliance's id, and what to do."""


TENANT_TELEMETRY: TypeAdapter[TenantTelemetry] = TypeAdapter(TenantTelemetry)
APPLIANCE_TELEMETRY: TypeAdapter[ApplianceTelemetry] = TypeAdapter(ApplianceTelemetry)


def _milli(value: float | None) -> float | None:
    return None if value is None else round(value * 1e3, 6)
