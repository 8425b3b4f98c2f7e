"""What a benchmark found, as values for JSON: times in ms, energy in mJ, rates a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from appliance.load.benchmark import Finding, Measured
from appliance.load.outcomes import Figures
from appliance.load.scenarios import Scenario


def summary(
    measured: Iterable[Measured], bounds_s: Mapping[str, float], loadgen_version: str
) -> dict[str, Any]:
    """All that was measured, and by what."""
    return {
        "loadgen": loadgen_version,
        "bounds_ms": {tenant: _milli(bound_s) for tenant, bound_s in bounds_s.items()},
        "scenarios": [_findings(one) for one in measured],
    }


def _findings(measured: Measured) -> dict[str, Any]:
    """A scenario's figure with MLPerf's name, what LoadGen says of the run, and all tenants'."""
    finding = measured.finding
    verdict = finding.played.verdict
    name, value, unit = figure_of(measured)
    return {
        "scenario": measured.scenario.value,
        "figure": {"name": name, "value": _rounded(value), "unit": unit},
        "valid": finding.valid,
        "queries": verdict.queries,
        "least_queries": measured.scenario.least_queries,
        "enough_queries": finding.enough,
        "early_stopping": verdict.early_stopping,
        "early_stopping_ms": _milli(verdict.estimate_s),
        "seconds": _rounded(finding.played.duration_s),
        "query_latency_ms": {
            "p50": _milli(verdict.p50_s),
            "p90": _milli(verdict.p90_s),
            "p99": _milli(verdict.p99_s),
        },
        "total": _figures(finding.total),
        "tenants": {tenant: _figures(of_tenant) for tenant, of_tenant in finding.tenants.items()},
        "search": _search(measured.search),
    }


def figure_of(measured: Measured) -> tuple[str, float | None, str]:
    """The one figure that MLPerf reports of a scenario: its name, value and unit."""
    finding = measured.finding
    verdict = finding.played.verdict
    match measured.scenario:
        case Scenario.SINGLE_STREAM:
            return "90th percentile of latency", verdict.p90_s * 1e3, "ms"
        case Scenario.MULTI_STREAM:
            return "99th percentile of 8 samples' latency", verdict.p99_s * 1e3, "ms"
        case Scenario.SERVER:
            rate_hz = finding.played.trial.rate_hz if finding.kept else None
            return "highest rate that keeps the bound", rate_hz, "queries/s"
        case Scenario.OFFLINE:
            return "samples a second", verdict.rate_hz, "samples/s"


def _figures(of: Figures) -> dict[str, Any]:
    return {
        "samples": of.samples,
        "answered": of.answered,
        "unanswered": of.unanswered,
        "rejected": {str(code): count for code, count in of.rejected.items()},
        "latency_ms": {"p50": _milli(of.p50_s), "p90": _milli(of.p90_s), "p99": _milli(of.p99_s)},
        "kept": _rounded(of.kept),
        "goodput_per_s": _rounded(of.goodput_hz),
        "accuracy": _rounded(of.accuracy),
        "energy_mj_per_inference": _milli(of.energy_j),
        "exits": {str(exit_): count for exit_, count in of.exits.items()},
    }


def _search(search: Iterable[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "rate_per_s": _rounded(finding.played.trial.rate_hz),
            "kept": _rounded(min(figures.kept for figures in finding.tenants.values())),
            "p99_ms": _milli(finding.total.p99_s),
            "goodput_per_s": _rounded(finding.total.goodput_hz),
        }
        for finding in search
    ]


def _milli(value: float | None) -> float | None:
    return None if value is None else round(value * 1e3, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
