"""The timeline: by when work must be begun for every deadline to be kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.timeline import HORIZON_S, SLOT_S, Timeline

NOW_S = 1000.0

pieces = st.lists(
    st.tuples(st.floats(NOW_S - 2, NOW_S + HORIZON_S), st.floats(0.0, 0.5)), max_size=40
)


def latest_begin_s(pieces: list[tuple[float, float]]) -> float:
    """The same by looking at every piece, the earliest deadline first."""
    work_s, begin_s = 0.0, math.inf
    for deadline_s, piece_s in sorted(pieces):
        work_s += piece_s
        begin_s = min(begin_s, deadline_s - work_s)
    return begin_s


def test_without_work_there_is_no_time_by_which_to_begin() -> None:
    assert Timeline().latest_begin_s(NOW_S) == math.inf


def test_work_is_begun_early_enough_for_what_follows_it() -> None:
    timeline = Timeline()

    timeline.add(NOW_S + 0.100, 0.010)
    timeline.add(NOW_S + 0.105, 0.030)

    assert timeline.latest_begin_s(NOW_S) == pytest.approx(NOW_S + 0.065, abs=SLOT_S)


@given(pieces, st.integers(0, 40))
def test_it_says_what_looking_at_every_piece_would_say(
    added: list[tuple[float, float]], removed: int
) -> None:
    timeline = Timeline()
    for piece in added:
        timeline.add(*piece)
    for piece in added[:removed]:
        timeline.remove(*piece)

    begin_s = timeline.latest_begin_s(NOW_S)

    exact_s = latest_begin_s(added[removed:])
    assert begin_s == exact_s or exact_s - SLOT_S - 1e-6 <= begin_s <= exact_s + 1e-6


@given(pieces, st.floats(NOW_S - 2, NOW_S + HORIZON_S))
def test_it_tells_how_much_work_is_due_until_a_moment(
    added: list[tuple[float, float]], until_s: float
) -> None:
    timeline = Timeline()
    for piece in added:
        timeline.add(*piece)

    work_s = timeline.work_until_s(until_s, NOW_S)

    at_least = sum(piece_s for deadline_s, piece_s in added if deadline_s <= until_s - SLOT_S)
    at_most = sum(piece_s for deadline_s, piece_s in added if deadline_s <= until_s + SLOT_S)
    assert at_least - 1e-6 <= work_s <= at_most + 1e-6
