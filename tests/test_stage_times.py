"""Estimates of stage times: careful, robust, and quick to follow."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine import Engine, Latency
from appliance.stage_times import MARGIN, RECENT, WINDOW, StageTimes
from tests.factories import an_engine


def an_engine_with_batches(*times_s: tuple[int, float]) -> Engine:
    engine = an_engine()
    latency = {size: Latency(p50_s=time_s, p95_s=time_s) for size, time_s in times_s}
    for stage in engine.stages:
        object.__setattr__(stage, "latency", latency)
    return engine


def test_they_start_from_the_profile() -> None:
    times = StageTimes(an_engine(stage_time_s=0.020))

    assert times.careful_s == pytest.approx([0.020 * MARGIN] * 4)
    assert times.typical_s == pytest.approx([0.020] * 4)


def test_without_a_profile_they_start_from_the_first_run() -> None:
    engine = an_engine()
    for stage in engine.stages:
        object.__setattr__(stage, "latency", {})
    times = StageTimes(engine)

    times.observe(0, 0.015)

    assert times.typical_s == pytest.approx([0.015, 0.0, 0.0, 0.0])


def test_one_slow_run_in_many_passes_by() -> None:
    times = StageTimes(an_engine())
    for _ in range(WINDOW - 1):
        times.observe(0, 0.010)

    times.observe(0, 1.0)

    assert times.careful_s[0] == pytest.approx(0.010 * MARGIN, rel=0.02)


@pytest.mark.parametrize("pace", [0.5, 2.0, 3.0])
def test_a_change_of_the_clock_is_followed_within_a_few_runs(pace: float) -> None:
    times = StageTimes(an_engine())
    for _ in range(WINDOW):
        for stage in range(4):
            times.observe(stage, 0.010)

    for _ in range(RECENT):
        times.observe(0, 0.010 * pace)

    assert times.typical_s == pytest.approx([0.010 * pace] * 4, rel=0.05)
    for _ in range(RECENT):
        times.observe(0, 0.010 * pace)
    assert times.careful_s == pytest.approx([0.010 * pace * MARGIN] * 4, rel=0.05)


def test_a_machine_of_another_make_is_learnt_stage_by_stage() -> None:
    times, true_s = StageTimes(an_engine()), (0.020, 0.005, 0.040, 0.010)

    for _ in range(16):
        for stage, time_s in enumerate(true_s):
            times.observe(stage, time_s)

    assert times.typical_s == pytest.approx(true_s, rel=0.05)


def test_the_careful_estimate_holds_for_nineteen_runs_in_twenty() -> None:
    chance = random.Random(3)
    times = StageTimes(an_engine())
    late = 0
    for run in range(2000):
        stage = run % 4
        duration_s = 0.010 * chance.lognormvariate(0.0, 0.08)
        late += run >= WINDOW and duration_s > times.careful_s[stage]
        times.observe(stage, duration_s)

    assert late < 0.05 * 2000


def test_a_batch_pays_where_the_profile_says_so() -> None:
    paying = StageTimes(an_engine_with_batches((1, 0.010), (4, 0.014), (8, 0.022)))
    futile = StageTimes(an_engine_with_batches((1, 0.010), (4, 0.041), (8, 0.082)))

    assert paying.largest_batch == [8] * 4
    assert futile.largest_batch == [1] * 4


def test_a_batch_size_that_was_never_run_is_estimated_by_its_likes() -> None:
    times = StageTimes(an_engine_with_batches((1, 0.010), (4, 0.014)))

    for _ in range(8):
        times.observe(0, 0.030)

    assert times.typical_batch_s(0, 4) == pytest.approx(0.042, rel=0.05)
    assert times.typical_batch_s(0, 3) == pytest.approx(0.042, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(1e-6, 10.0)), min_size=1, max_size=200))
def test_whatever_is_observed_the_estimates_stay_positive_and_in_order(
    runs: list[tuple[int, float]],
) -> None:
    times = StageTimes(an_engine())

    for stage, run_s in runs:
        times.observe(stage, run_s)

    pairs = zip(times.typical_s, times.careful_s, strict=True)
    assert all(0 < typical_s <= careful_s for typical_s, careful_s in pairs)


def test_stages_back_to_back_tell_of_the_pace_but_not_of_a_stage_alone() -> None:
    times = StageTimes(an_engine())
    for _ in range(RECENT):
        for stage in range(4):
            times.observe(stage, 0.010)

    for _ in range(4 * WINDOW):
        times.observe_span(0, 3, 0.036)
    together_as_before = list(times.typical_s)
    for _ in range(WINDOW):
        times.observe_span(0, 3, 0.072)

    assert together_as_before == pytest.approx([0.010] * 4)
    assert times.typical_s == pytest.approx([0.020] * 4, rel=0.05)


def test_a_spans_time_falls_to_its_stages_as_they_would_take_it_alone() -> None:
    times = StageTimes(an_engine())

    times.observe(1, 0.030)

    assert times.parts(0, 2) == pytest.approx([0.2, 0.6, 0.2])
