"""A load: the requests of a trace, and the plans of the tenants that send them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from appliance.errors import DelenError, WorkloadError
from appliance.plan import Plan
from appliance.reader import Reader
from appliance.workload.engines import Engines
from appliance.workload.log import read_log
from appliance.workload.synthetic import draw
from appliance.workload.trace import Arrival, Generated, Recorded
from appliance.workload.trace_file import read_trace_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Requests in the order of their times, all of them of tenants that have a plan."""

    arrivals: Iterable[Arrival]
    plans: Mapping[str, Plan]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many requests of tenants without a policy were left out."""


def generated_load(
    trace: Generated, plans: Mapping[str, Plan], *, seconds: float, seed: int
) -> Load:
    """So many seconds of a process. Raises WorkloadError where it does not fit the policies."""
    _require_policies(plans)
    processes = trace.of(list(plans))
    return Load(arrivals=draw(processes, seconds=seconds, seed=seed), plans=plans)


def recorded_load(trace: Recorded, plans: Mapping[str, Plan], *, seconds: float) -> Load:
    """The first so many seconds of a file. While it is read it may raise WorkloadError."""
    _require_policies(plans)
    return Load(arrivals=_known(_first(read_trace_file(trace.path), seconds), plans), plans=plans)


def logged_load(
    database: Path, plans: Mapping[str, Plan], engines: Engines, *, since_s: float, seconds: float
) -> Load:
    """The first so many seconds of the log since a moment, in seconds since the epoch.

    Tenants for which no plan is given have the policy that the database keeps; those without one
    are left out. Raises WorkloadError where nothing is left, StoreError without a database.
    """
    with Reader(database) as reader:
        arrivals = list(_first(read_log(reader, since_s=since_s), seconds))
        tenants = {arrival.tenant for arrival in arrivals}
        kept = _kept_plans(reader, engines, tenants - plans.keys())
    used = {**plans, **kept}
    played = [arrival for arrival in arrivals if arrival.tenant in used]
    if not played:
        raise WorkloadError("no tenant of the log has a policy: name policy files")
    left_out = Counter(arrival.tenant for arrival in arrivals if arrival.tenant not in used)
    return Load(arrivals=played, plans=used, left_out=left_out)


def _first(arrivals: Iterable[Arrival], seconds: float) -> Iterator[Arrival]:
    return takewhile(lambda arrival: arrival.at_s < seconds, arrivals)


def _require_policies(plans: Mapping[str, Plan]) -> None:
    if not plans:
        raise WorkloadError("no policy is given: name one file a tenant")


def _known(arrivals: Iterable[Arrival], plans: Mapping[str, Plan]) -> Iterator[Arrival]:
    for arrival in arrivals:
        if arrival.tenant not in plans:
            raise WorkloadError(
                f"a request at {arrival.at_s:g} s is of the tenant {arrival.tenant}, for which no"
                f" policy is given; policies here: {', '.join(plans)}"
            )
        yield arrival


def _kept_plans(reader: Reader, engines: Engines, tenants: set[str]) -> dict[str, Plan]:
    plans = {}
    for policy in reader.policies():
        if policy.tenant in tenants:
            try:
                plans[policy.tenant] = engines.plan_of(policy.source)
            except DelenError as error:
                raise WorkloadError(
                    f"the policy that is kept of the tenant {policy.tenant} does not hold: {error}"
                ) from error
    return plans
