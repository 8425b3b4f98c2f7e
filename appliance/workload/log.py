"""The inference log, played again."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.errors import WorkloadError
from appliance.reader import Reader
from appliance.workload.trace import Arrival


def read_log(reader: Reader, *, since_s: float) -> Iterator[Arrival]:
    """The requests that were answered or rejected since a moment, as seconds since the epoch.

    Times count from the first of them. Raises WorkloadError where there is none.
    """
    first_s: float | None = None
    for arrived_s, tenant in reader.arrivals(since_s=since_s):
        first_s = arrived_s if first_s is None else first_s
        yield Arrival(at_s=arrived_s - first_s, tenant=tenant)
    if first_s is None:
        raise WorkloadError("the log holds no requests of that time: look further back")
