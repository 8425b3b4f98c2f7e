"""An engine that fails is reloaded once, and goes out of service at three failures in a minute."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine_health import MOST_FAILURES, WINDOW_S, Health, Remedy

MOMENTS = st.lists(st.floats(0.0, 300.0), max_size=12).map(sorted)


def remedies(failed_s: list[float]) -> list[Remedy]:
    """What each failure asks for, up to the one that takes the engine out."""
    health, given_ = Health(), []
    for time_s in failed_s:
        given_.append(health.failed(time_s))
        if given_[-1] is Remedy.TAKE_OUT:
            break
    return given_


def test_the_first_failure_reloads_the_second_waits_and_the_third_takes_out() -> None:
    given_ = remedies([0.0, 20.0, 60.0])

    assert given_ == [Remedy.RELOAD, Remedy.NOTHING, Remedy.TAKE_OUT]


def test_a_failure_after_a_quiet_minute_reloads_again() -> None:
    given_ = remedies([0.0, 60.1, 120.3])

    assert given_ == [Remedy.RELOAD] * 3


@given(MOMENTS)
def test_an_engine_goes_out_at_the_third_failure_within_a_minute_and_never_before(
    failed_s: list[float],
) -> None:
    given_ = remedies(failed_s)

    for number, remedy in enumerate(given_):
        now_s = failed_s[number]
        lately = [time_s for time_s in failed_s[: number + 1] if now_s - time_s <= WINDOW_S]
        assert (remedy is Remedy.TAKE_OUT) == (len(lately) >= MOST_FAILURES)


@given(MOMENTS)
def test_there_is_no_more_than_one_reload_in_a_minute(failed_s: list[float]) -> None:
    given_ = remedies(failed_s)

    reloads_s = [s for s, remedy in zip(failed_s, given_, strict=False) if remedy is Remedy.RELOAD]
    assert all(after_s - before_s > WINDOW_S for before_s, after_s in pairwise(reloads_s))
