"""Estimates of stage times: careful, robust, and quick to follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.stage_times import MARGIN, WINDOW, StageTimes
from tests.factories import an_engine


def test_they_start_from_the_profile() -> None:
    times = StageTimes(an_engine(stage_time_s=0.020))

    assert times.estimates_s == pytest.approx([0.020 * MARGIN] * 4)


def test_one_slow_run_in_many_passes_by() -> None:
    times = StageTimes(an_engine())
    for _ in range(WINDOW - 1):
        times.observe(0, 0.010)

    times.observe(0, 1.0)

    assert times.estimates_s[0] == pytest.approx(0.010 * MARGIN)


def test_a_slower_clock_is_followed_within_a_window() -> None:
    times = StageTimes(an_engine())
    for _ in range(WINDOW):
        times.observe(2, 0.010)

    for _ in range(4):
        times.observe(2, 0.030)

    assert times.estimates_s[2] == pytest.approx(0.030 * MARGIN)


@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=200))
def test_the_estimate_is_the_95th_percentile_of_the_last_window(runs: list[float]) -> None:
    times = StageTimes(an_engine())

    for run_s in runs:
        times.observe(1, run_s)

    window = sorted(runs[-WINDOW:])
    assert times.estimates_s[1] == window[int(0.95 * len(window))] * MARGIN
