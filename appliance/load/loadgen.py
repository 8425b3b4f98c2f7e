"""MLPerf's LoadGen: one run of it against a target, and what its log says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from appliance.errors import LoadError
from appliance.load.scenarios import Scenario, Trial

PACKAGE = "mlcommons-loadgen"
DETAIL, TRACE = "mlperf_log_detail.txt", "mlperf_log_trace.json"

_MARK = ":::MLLOG "
_SAMPLE = '{"name":"Sample","cat":"default","ph":"b"'
_NAMES = {
    Scenario.SINGLE_STREAM: "SingleStream",
    Scenario.MULTI_STREAM: "MultiStream",
    Scenario.SERVER: "Server",
    Scenario.OFFLINE: "Offline",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What LoadGen itself says of a run."""

    valid: bool
    early_stopping: str
    """What its early stopping makes of the number of queries, in its own words."""
    queries: int
    p50_s: float
    p90_s: float
    p99_s: float
    """Percentiles of the latency of queries."""
    estimate_s: float | None
    """The scenario's percentile as early stopping bounds it; None where there were too few."""
    rate_hz: float | None
    """Samples completed a second, where the scenario's figure is a rate."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One sample's times, in seconds since LoadGen started."""

    scheduled_s: float
    latency_s: float


def version() -> str:
    """Which LoadGen is installed. Raises LoadError where none is."""
    if find_spec("mlperf_loadgen") is None:
        raise LoadError("this needs MLPerf's LoadGen: install it with `pip install 'delen[bench]'`")
    return metadata.version(PACKAGE)


def run(
    trial: Trial,
    *,
    samples: int,
    issue: Callable[[Sequence[tuple[int, int]]], None],
    folder: Path,
) -> None:
    """Runs LoadGen until all it issued is complete; its log files are then in the folder.

    `issue` is called on this thread with ids and indices below `samples`; whoever it hands them to
    calls `complete` with each id. LoadGen cannot be interrupted: an exception in `issue` would end
    the process.
    """
    import mlperf_loadgen as lg  # noqa: PLC0415 - need not be there

    system = lg.ConstructSUT(
        lambda queries: issue([(query.id, query.index) for query in queries]), lambda: None
    )
    library = lg.ConstructQSL(samples, samples, lambda _: None, lambda _: None)
    try:
        # The last argument is a file of an audit, which there is none of.
        lg.StartTestWithLogSettings(system, library, _settings(lg, trial), _logs(lg, folder), "")
    finally:
        lg.DestroyQSL(library)
        lg.DestroySUT(system)


def complete(query: int) -> None:
    """Tells LoadGen that a query's answer is there."""
    import mlperf_loadgen as lg  # noqa: PLC0415

    lg.QuerySamplesComplete([lg.QuerySampleResponse(query, 0, 0)])


def _settings(lg: Any, trial: Trial) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, _NAMES[trial.scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = max(1, round(trial.seconds * 1e3))
    settings.min_query_count = trial.queries
    # LoadGen draws up its queries before the start: from these it knows how many it may need.
    expected_ns = max(1, round(1e9 / trial.rate_hz))
    settings.single_stream_expected_latency_ns = expected_ns
    settings.multi_stream_expected_latency_ns = expected_ns
    settings.multi_stream_samples_per_query = Scenario.MULTI_STREAM.samples_per_query
    settings.offline_expected_qps = trial.rate_hz
    settings.server_target_qps = trial.rate_hz
    settings.server_target_latency_ns = round(trial.bound_s * 1e9)
    settings.single_stream_target_latency_percentile = Scenario.SINGLE_STREAM.percentile
    settings.multi_stream_target_latency_percentile = Scenario.MULTI_STREAM.percentile
    settings.server_target_latency_percentile = Scenario.SERVER.percentile
    return settings


def _logs(lg: Any, folder: Path) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    output.copy_detail_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = True
    return logs


def read_verdict(detail: str, scenario: Scenario) -> Verdict:
    """The verdict in the text of a detailed log. Raises LoadError where it has none."""
    values: dict[str, Any] = {}
    for line in detail.splitlines():
        if line.startswith(_MARK):
            entry = json.loads(line[len(_MARK) :])
            values[entry["key"]] = entry["value"]
    if "result_validity" not in values:
        raise LoadError(f"LoadGen came to no result; the end of its log: {detail[-500:]}")
    kind = "per_query_latency_ns" if scenario is Scenario.MULTI_STREAM else "latency_ns"
    p50_s, p90_s, p99_s = (
        values[f"result_{percent}.00_percentile_{kind}"] * 1e-9 for percent in (50, 90, 99)
    )
    return Verdict(
        valid=values["result_validity"] == "VALID",
        early_stopping=" ".join(str(values.get("early_stopping_result", "")).split()),
        queries=values["result_query_count"],
        p50_s=p50_s,
        p90_s=p90_s,
        p99_s=p99_s,
        estimate_s=_estimate_s(values, scenario),
        rate_hz=_rate_hz(values, scenario),
    )


def _estimate_s(values: Mapping[str, Any], scenario: Scenario) -> float | None:
    keys = {Scenario.SINGLE_STREAM: "latency_ss", Scenario.MULTI_STREAM: "latency_ms"}
    if scenario not in keys or not values["early_stopping_met"]:
        return None
    return float(values[f"early_stopping_{keys[scenario]}"]) * 1e-9


def _rate_hz(values: Mapping[str, Any], scenario: Scenario) -> float | None:
    keys = {Scenario.SERVER: "completed_samples_per_sec", Scenario.OFFLINE: "samples_per_second"}
    return float(values[f"result_{keys[scenario]}"]) if scenario in keys else None


def read_timings(trace: Path) -> list[Timing]:
    """Each sample's times in the order of issue, from the trace that LoadGen leaves."""
    timings = {}
    # The file as a whole is no JSON, but each of these lines is.
    with trace.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(_SAMPLE):
                event = json.loads(line.rstrip().rstrip(","))
                timings[event["id"]] = Timing(
                    scheduled_s=event["ts"] * 1e-6, latency_s=event["args"]["complete_ns"] * 1e-9
                )
    return [timings[number] for number in sorted(timings)]
