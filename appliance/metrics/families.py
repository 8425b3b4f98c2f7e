"""A snapshot as Prometheus has it: what each metric is called, in which unit, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from appliance.health import Health
from appliance.metrics.counters import BUCKETS_S
from appliance.metrics.survey import Snapshot

VERSION = version("delen")


def families(snapshot: Snapshot, health: Health) -> Iterator[Metric]:
    """All of an appliance's metrics. What is not known has no sample, but always its family."""
    yield from _appliance(snapshot, health)
    yield from _engines(snapshot)
    yield from _power(snapshot)
    yield from _device_energy(snapshot)
    yield from _requests(snapshot)
    yield from _response_times(snapshot)
    yield from _tenants_energy(snapshot)
    yield from _policies(snapshot)
    yield from _agreement(snapshot)


def _appliance(snapshot: Snapshot, health: Health) -> Iterator[Metric]:
    build = {"version": VERSION, "appliance": snapshot.appliance}
    yield InfoMetricFamily("delen_build", "The release that runs, and the appliance's name", build)
    yield _gauge("delen_healthy", "1 where `delen health` says that all is well", health.well)
    yield _gauge(
        "delen_broker_connected", "1 while the broker has the appliance online", snapshot.connected
    )
    yield _gauge(
        "delen_unacknowledged_requests",
        "Requests and policies that were received and not acknowledged yet",
        snapshot.open_deliveries,
    )
    yield _gauge("delen_log_failed", "1 while the log cannot be written", snapshot.log_failed)
    yield _gauge(
        "delen_database_damaged",
        "1 where the database was found damaged since the start, and another one gone on with",
        snapshot.database_damaged,
    )
    yield _counter(
        "delen_unlogged_replies",
        "Replies of QoS 0 that the log had no room for",
        snapshot.unlogged,
    )
    yield _counter(
        "delen_unsent_messages",
        "Replies and readings of QoS 0 that the broker did not take",
        snapshot.unsent,
    )
    yield _gauge(
        "delen_waiting_frames_bytes",
        "What the frames that wait take in memory, of DELEN_FRAME_MEMORY",
        snapshot.frame_bytes,
    )
    yield _gauge(
        "delen_executor_age_seconds",
        "How old what the executor last said is; over a second, it hangs in a stage",
        snapshot.age_s,
    )


def _engines(snapshot: Snapshot) -> Iterator[Metric]:
    backends = InfoMetricFamily(
        "delen_engine", "What runs an engine that is open", labels=("engine",)
    )
    for engine, backend in sorted(snapshot.backends.items()):
        backends.add_metric((engine,), {"backend": backend})
    yield backends
    served = GaugeMetricFamily(
        "delen_engine_in_service",
        "1 where an engine serves, 0 where it was taken out of service because it failed",
        labels=("engine",),
    )
    for engine in sorted(snapshot.backends.keys() | snapshot.out_of_service):
        served.add_metric((engine,), engine not in snapshot.out_of_service)
    yield served


def _power(snapshot: Snapshot) -> Iterator[Metric]:
    meter = snapshot.meter
    yield InfoMetricFamily("delen_meter", "Where power is read", {"meter": meter.name})
    yield _gauge(
        "delen_meter_failed",
        "1 where power is to be read and cannot be, so that energy is modelled",
        meter.failure is not None,
    )
    reading = meter.reading
    total_w = None if reading is None else reading.total_w
    yield _gauge("delen_device_power_watts", "What the device takes in, as far as seen", total_w)
    yield _gauge(
        "delen_idle_power_watts", "What it takes while nothing runs", snapshot.executor.idle_w
    )
    rails = GaugeMetricFamily(
        "delen_power_watts",
        "The power of a rail; rails may be part of one another, so that they do not add up",
        labels=("rail",),
    )
    zones = GaugeMetricFamily(
        "delen_temperature_celsius", "The temperature of a zone", labels=("zone",)
    )
    if reading is not None:
        for rail, power_w in reading.rails_w.items():
            rails.add_metric((rail,), power_w)
        for zone, temperature_c in reading.temperatures_c.items():
            zones.add_metric((zone,), temperature_c)
    yield rails
    yield zones


def _device_energy(snapshot: Snapshot) -> Iterator[Metric]:
    used = CounterMetricFamily(
        "delen_device_energy_joules",
        "What the meter saw, by what it went into: tenants, idle or unattributed",
        labels=("use",),
    )
    for use, energy_j in snapshot.used_j().items():
        used.add_metric((use,), energy_j)
    yield used
    budget = snapshot.executor.device_budget
    yield _gauge(
        "delen_device_budget_joules",
        "What all tenants together may spend in a period",
        None if budget is None else budget.energy_j,
    )
    yield _gauge(
        "delen_device_budget_remaining_joules",
        "What of that is left",
        None if budget is None else max(0.0, budget.left_j),
    )


def _requests(snapshot: Snapshot) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "delen_requests",
        "Requests that were dealt with: ok or rejected",
        labels=("tenant", "engine", "status"),
    )
    exits = CounterMetricFamily(
        "delen_exits", "Answers, by the exit that they are from", labels=("tenant", "exit")
    )
    rejections = CounterMetricFamily(
        "delen_rejections", "Requests that were turned away, by code", labels=("tenant", "code")
    )
    muted = CounterMetricFamily(
        "delen_muted_rejections",
        "Those of the rejections that nobody was sent, since there were too many",
        labels=("tenant",),
    )
    unmet = CounterMetricFamily(
        "delen_unmet_bounds", "Answers that did not keep a bound", labels=("tenant", "bound")
    )
    for tenant, tally in snapshot.tallies.items():
        for (engine, status), count in sorted(tally.requests.items()):
            requests.add_metric((tenant, engine, status), count)
        for exit_, count in sorted(tally.exits.items()):
            exits.add_metric((tenant, str(exit_)), count)
        for code, count in sorted(tally.rejections.items()):
            rejections.add_metric((tenant, str(code)), count)
        muted.add_metric((tenant,), tally.muted)
        for bound, count in sorted(tally.unmet.items()):
            unmet.add_metric((tenant, bound), count)
    yield from (requests, exits, rejections, muted, unmet)
    queue = GaugeMetricFamily(
        "delen_queue_length", "Requests that wait for their first stage", labels=("tenant",)
    )
    for tenant, length in snapshot.queue_lengths().items():
        queue.add_metric((tenant,), length)
    yield queue


def _response_times(snapshot: Snapshot) -> Iterator[Metric]:
    times = HistogramMetricFamily(
        "delen_response_seconds",
        "From a frame's arrival at the appliance to its answer",
        labels=("tenant",),
    )
    edges = [*(str(edge_s) for edge_s in BUCKETS_S), "+Inf"]
    for tenant, tally in snapshot.tallies.items():
        counts = accumulate(tally.response_times)
        buckets = list(zip(edges, map(float, counts), strict=True))
        times.add_metric((tenant,), buckets=buckets, sum_value=tally.response_times_s)
    yield times


def _tenants_energy(snapshot: Snapshot) -> Iterator[Metric]:
    energy = CounterMetricFamily(
        "delen_energy_joules",
        "What a tenant's stages were charged: by the meter, or by the profile where none saw them",
        labels=("tenant", "source"),
    )
    for tenant, tally in snapshot.tallies.items():
        energy.add_metric((tenant, "measured"), tally.spent.measured_j)
        energy.add_metric((tenant, "modelled"), tally.spent.modelled_j)
    yield energy
    whole = GaugeMetricFamily(
        "delen_budget_joules", "What a tenant may spend in a period", labels=("tenant",)
    )
    remaining = GaugeMetricFamily(
        "delen_budget_remaining_joules", "What of that is left", labels=("tenant",)
    )
    for tenant, state in snapshot.tenants().items():
        if state.budget is not None:
            whole.add_metric((tenant,), state.budget.energy_j)
            remaining.add_metric((tenant,), max(0.0, state.budget.left_j))
    yield whole
    yield remaining


def _policies(snapshot: Snapshot) -> Iterator[Metric]:
    versions = GaugeMetricFamily(
        "delen_policy_version", "The version of the policy in force", labels=("tenant",)
    )
    bounds = GaugeMetricFamily(
        "delen_response_bound_seconds", "The policy's bound on response time", labels=("tenant",)
    )
    for tenant, state in snapshot.tenants().items():
        versions.add_metric((tenant,), state.policy_version)
        if state.bound_s is not None:
            bounds.add_metric((tenant,), state.bound_s)
    yield versions
    yield bounds


def _agreement(snapshot: Snapshot) -> Iterator[Metric]:
    agreement = GaugeMetricFamily(
        "delen_agreement_ratio",
        "How often answers agree with the last exit, where the policy asks for it",
        labels=("tenant",),
    )
    drifts = CounterMetricFamily(
        "delen_drifts", "How often a tenant's frames were found to have changed", labels=("tenant",)
    )
    for tenant, state in snapshot.tenants().items():
        if state.agreement is not None:
            agreement.add_metric((tenant,), state.agreement.agreement)
            drifts.add_metric((tenant,), state.agreement.alarms)
    yield agreement
    yield drifts


def _gauge(name: str, says: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(name, says)
    if value is not None:
        family.add_metric((), value)
    return family


def _counter(name: str, says: str, value: float) -> Metric:
    return CounterMetricFamily(name, says, value=value)
