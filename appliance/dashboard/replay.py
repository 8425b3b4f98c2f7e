"""What a policy would do under the last hour's load, beside what really happened."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from appliance.errors import WorkloadError
from appliance.fleet.tenants import TenantView, exit_column
from appliance.messages import Result
from appliance.reader import Reader

HOUR_S = 3600.0
TIMEOUT_S = 120.0
MAX_REQUESTS = 200_000
"""Longer traces than that are cut off at their old end."""

_NICENESS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What came of a tenant's requests. Times in ms."""

    requests: int
    answers: int
    rejected: int
    exits: Mapping[int, int]
    p50_ms: float | None
    p99_ms: float | None
    bound_kept: float | None
    """The fraction within its bounds; the simulation counts that on response time alone."""
    energy_j: float | None

    @property
    def energy_each_j(self) -> float | None:
        return self.energy_j / self.answers if self.energy_j is not None and self.answers else None


def happened_in_log(database: Path, tenant: str, *, since_s: float) -> Figures:
    """What the log says of a tenant since a moment (seconds since the epoch). Raises StoreError."""
    exits: Counter[int] = Counter()
    times_ms: list[float] = []
    rejected, kept, energy_j = 0, 0, 0.0
    with Reader(database) as reader:
        for reply in reader.inferences(tenant=tenant, since_s=since_s, limit=MAX_REQUESTS):
            if not isinstance(reply, Result):
                rejected += 1
                continue
            exits[reply.exit] += 1
            times_ms.append(reply.response_time_ms)
            kept += not reply.unmet
            energy_j += (reply.energy_mj or 0.0) * 1e-3
    answers = len(times_ms)
    p50_ms, p99_ms = np.percentile(times_ms, (50, 99)).tolist() if times_ms else (None, None)
    return Figures(
        requests=answers + rejected,
        answers=answers,
        rejected=rejected,
        exits=exits,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        bound_kept=kept / answers if answers else None,
        energy_j=energy_j,
    )


def happened_in_telemetry(view: TenantView) -> Figures:
    """The same, as far as telemetry told of it; percentiles are means of those of its windows."""
    history = view.history
    windows_s = history.column("window_s")

    def count(column: str) -> float:
        return float(np.nansum(history.column(column) * windows_s))

    def mean(column: str) -> float | None:
        figures, weights = history.column(column), history.column("answered_per_s") * windows_s
        known = np.isfinite(figures) & (weights > 0.0)
        return float(np.average(figures[known], weights=weights[known])) if known.any() else None

    answers, rejected = count("answered_per_s"), count("rejected_per_s")
    each_mj = mean("energy_each_mj")
    return Figures(
        requests=round(answers + rejected),
        answers=round(answers),
        rejected=round(rejected),
        exits={exit_: round(count(exit_column(exit_))) for exit_ in range(view.exits)},
        p50_ms=mean("p50_ms"),
        p99_ms=mean("p99_ms"),
        bound_kept=mean("bound_kept"),
        energy_j=None if each_mj is None else each_mj * 1e-3 * answers,
    )


def trace_of(views: list[TenantView]) -> str:
    """A trace with as many requests as telemetry told of, evenly spread over each window: CSV."""
    arrivals: list[tuple[float, str]] = []
    for view in views:
        ends_s, windows_s = view.history.times_s(), view.history.column("window_s")
        counts = np.rint(np.nan_to_num(view.history.column("rate_per_s")) * windows_s)
        for end_s, window_s, count in zip(ends_s, windows_s, counts.astype(int), strict=True):
            steps = np.arange(min(int(count), MAX_REQUESTS)) + 0.5
            moments_s = end_s - window_s + steps * window_s / max(1, count)
            arrivals += [(float(at_s), view.name) for at_s in moments_s]
    if not arrivals:
        raise WorkloadError("no request was told of yet, so that there is none to simulate")
    latest = sorted(arrivals)[-MAX_REQUESTS:]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("time", "tenant"))
    writer.writerows((f"{at_s - latest[0][0]:.6f}", tenant) for at_s, tenant in latest)
    return text.getvalue()


class Replays:
    """Runs simulations, one at a time, each in a process of its own that gives way to others."""

    def __init__(self, *, engines: Path) -> None:
        self._engines = engines.resolve()
        self._one = asyncio.Lock()

    async def of_log(self, draft: str, tenant: str, *, database: Path) -> Figures:
        """Plays the last hour of the log, other tenants under the policies that it keeps.

        Raises WorkloadError.
        """
        return await self._play({tenant: draft}, tenant, trace="log:1h", database=database)

    async def of_telemetry(self, documents: Mapping[str, str], tenant: str, trace: str) -> Figures:
        """Plays a trace in CSV to these tenants' policies. Raises WorkloadError."""
        return await self._play(documents, tenant, trace=trace, database=None)

    async def _play(
        self, documents: Mapping[str, str], tenant: str, *, trace: str, database: Path | None
    ) -> Figures:
        if self._one.locked():
            raise WorkloadError("another simulation runs at the moment: try again after it")
        async with self._one:
            with TemporaryDirectory(prefix="delen-replay-") as name:
                folder = Path(name)
                files = []
                for number, document in enumerate(documents.values()):
                    file = folder / f"{number}.yaml"
                    file.write_text(document, encoding="utf-8")
                    files.append(str(file))
                options = ["--engine", str(self._engines), "--json"]
                if database is None:
                    (folder / "trace.csv").write_text(trace, encoding="utf-8")
                    options += ["--trace", str(folder / "trace.csv")]
                else:
                    options += ["--trace", trace, "--database", str(database)]
                findings = json.loads(await _run(["simulate", *files, *options]))
        return _figures(next(one for one in findings["tenants"] if one["tenant"] == tenant))


async def _run(arguments: list[str]) -> bytes:
    """What a command of this package prints. Raises WorkloadError with what it complains of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "appliance.cli",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    # It may run beside the appliance, which goes before.
    with suppress(psutil.Error):
        psutil.Process(process.pid).nice(_NICENESS)
    try:
        printed, complaint = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except asyncio.TimeoutError:
        raise WorkloadError(f"the simulation took longer than {TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise WorkloadError(" ".join(complaint.decode(errors="replace").split()))
    return printed


def _figures(findings: dict[str, Any]) -> Figures:
    times = findings["response_time_ms"]
    return Figures(
        requests=findings["requests"],
        answers=findings["answers"],
        rejected=sum(findings["rejected"].values()),
        exits={int(exit_): count for exit_, count in findings["exits"].items()},
        p50_ms=times["p50"],
        p99_ms=times["p99"],
        bound_kept=findings["bound_kept"],
        energy_j=findings["energy_j"],
    )
