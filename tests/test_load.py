"""The load's pure parts: counts that MLPerf believes, the search for a rate, the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import LoadError
from appliance.load.loadgen import Timing, read_timings, read_verdict
from appliance.load.outcomes import Outcome, figures_by_tenant, figures_of
from appliance.load.samples import Frame, mixed, read_frames
from appliance.load.scenarios import Scenario, smallest_count
from appliance.load.search import PRECISION, highest_rate

BOUNDS_S = {"gate": 0.02, "garden": 1.0}


@pytest.mark.parametrize(
    ("percentile", "slower", "count"), [(0.9, 1, 64), (0.99, 1, 662), (0.99, 0, 459)]
)
def test_the_smallest_counts_are_those_that_mlperf_publishes(
    percentile: float, slower: int, count: int
) -> None:
    assert smallest_count(percentile, slower=slower) == count


@given(st.integers(0, 20))
def test_who_allows_more_slow_queries_needs_more_queries(slower: int) -> None:
    assert smallest_count(0.9, slower=slower) < smallest_count(0.9, slower=slower + 1)


def test_offline_and_eight_at_once_have_minimums_of_their_own() -> None:
    assert Scenario.OFFLINE.least_queries == 24_576
    assert (Scenario.MULTI_STREAM.least_queries, Scenario.MULTI_STREAM.samples_per_query) == (
        662,
        8,
    )


@given(capacity_hz=st.floats(0.1, 10_000.0), start_hz=st.floats(0.5, 5_000.0))
def test_the_search_ends_just_below_the_capacity(capacity_hz: float, start_hz: float) -> None:
    tried: list[float] = []

    def keeps(rate_hz: float) -> bool:
        tried.append(rate_hz)
        return rate_hz <= capacity_hz

    found_hz = highest_rate(keeps, start_hz=start_hz)

    if found_hz is None:
        assert min(tried) > capacity_hz
    elif max(tried) > capacity_hz:
        assert found_hz <= capacity_hz < found_hz * PRECISION * 1.001
    assert len(tried) <= 20


def test_a_system_that_keeps_up_with_nothing_has_no_rate() -> None:
    assert highest_rate(lambda _: False, start_hz=100.0) is None


def outcome(
    latency_s: float,
    *,
    tenant: str = "gate",
    exit: int | None = 0,  # noqa: A002 - the field's name
    right: bool | None = None,
    energy_j: float | None = None,
    code: int | None = None,
) -> Outcome:
    return Outcome(
        tenant=tenant, latency_s=latency_s, exit=exit, right=right, energy_j=energy_j, code=code
    )


def test_figures_tell_answers_in_time_from_late_rejected_and_lost_ones() -> None:
    outcomes = [
        outcome(0.01, right=True, energy_j=0.002),
        outcome(0.02, right=False, energy_j=0.004, exit=2),
        outcome(0.03),
        outcome(0.001, exit=None, code=429),
        outcome(10.0, exit=None),
    ]

    figures = figures_of(outcomes, bounds_s=BOUNDS_S, duration_s=0.5)

    assert (figures.samples, figures.answered, figures.unanswered) == (5, 3, 1)
    assert figures.rejected == {429: 1}
    assert figures.exits == {0: 2, 2: 1}
    assert (figures.kept, figures.goodput_hz) == (0.4, 4.0)
    assert (figures.p50_s, figures.p99_s) == (0.02, 0.03)
    assert figures.accuracy == 0.5
    assert figures.energy_j == pytest.approx(0.003)


def test_each_tenant_has_its_own_bound_and_a_silent_one_kept_nothing() -> None:
    figures = figures_by_tenant(
        [outcome(0.5, tenant="garden"), outcome(0.6, tenant="garden")],
        bounds_s=BOUNDS_S,
        duration_s=1.0,
    )

    assert (figures["garden"].kept, figures["gate"].kept) == (1.0, 0.0)
    assert (figures["gate"].p99_s, figures["gate"].accuracy) == (None, None)


@given(st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=50))
def test_percentiles_are_latencies_that_were_seen_and_rise(latencies_s: list[float]) -> None:
    figures = figures_of(
        [outcome(latency_s) for latency_s in latencies_s], bounds_s=BOUNDS_S, duration_s=1.0
    )

    percentiles = [figures.p50_s, figures.p90_s, figures.p99_s]
    assert set(percentiles) <= set(latencies_s)
    assert percentiles == sorted(percentiles, key=float)  # type: ignore[arg-type]


@given(st.integers(1, 7), st.integers(1, 7))
def test_tenants_frames_are_mixed_equally_and_all_of_them(first: int, second: int) -> None:
    frames = {
        "gate": [Frame(b"%d" % number, None) for number in range(first)],
        "garden": [Frame(b"%d" % number, None) for number in range(second)],
    }

    samples = mixed(frames)

    for tenant, of_tenant in frames.items():
        mine = [sample.frame for sample in samples if sample.tenant == tenant]
        assert len(mine) == max(first, second)
        assert set(mine) == set(of_tenant)


def test_frames_directly_in_the_folder_have_no_label(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "a.jpg").write_bytes(b"seven")
    (tmp_path / "b.npy").write_bytes(b"what")
    (tmp_path / "notes.txt").write_text("no frame")

    assert set(read_frames(tmp_path)) == {Frame(b"seven", "7"), Frame(b"what", None)}


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no frames in"):
        read_frames(tmp_path)


def test_a_log_without_a_result_is_no_verdict() -> None:
    line = ":::MLLOG " + json.dumps({"key": "power_begin", "value": "now"})

    with pytest.raises(LoadError, match="came to no result"):
        read_verdict(line, Scenario.SERVER)


def test_timings_are_in_the_order_of_issue_however_they_were_written(tmp_path: Path) -> None:
    begin = '{"name":"Sample","cat":"default","ph":"b","pid":1,"id":%d,"ts":%d,'
    begin += '"args":{"sample_seq":%d,"complete_ns":%d}},\n'
    trace = tmp_path / "trace.json"
    trace.write_text(
        '{"traceEvents":[\n'
        + begin % (1, 3_000_000, 1, 5_000_000)
        + '{"name":"LogDetail","args":{"key":""loadgen_git"}},\n'
        + begin % (0, 1_000_000, 0, 7_000_000)
    )

    assert read_timings(trace) == [Timing(1.0, 0.007), Timing(3.0, 0.005)]
