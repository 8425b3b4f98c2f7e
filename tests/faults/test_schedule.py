"""Schedules: decided by their seed alone, and every kind of fault in each round."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.schedule import ALONE, ROUND, Kind, schedule


@given(st.integers(0, 2**32), st.integers(0, 10_000))
def test_a_schedule_is_the_same_whenever_it_is_asked_for(seed: int, number: int) -> None:
    assert schedule(seed, number) == schedule(seed, number)


@given(st.integers(0, 2**32), st.integers(0, 100))
def test_every_kind_occurs_once_in_every_round(seed: int, turn: int) -> None:
    faults = [
        fault.kind
        for place in range(ROUND)
        for fault in schedule(seed, turn * ROUND + place).faults
    ]

    assert sorted(faults) == sorted(Kind)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_nothing_else_happens_while_the_database_is_damaged(seed: int, number: int) -> None:
    planned = schedule(seed, number)

    assert not (planned.overlap and planned.kinds & ALONE)


def test_another_seed_makes_other_schedules() -> None:
    assert [schedule(1, n).faults for n in range(ROUND)] != [
        schedule(2, n).faults for n in range(ROUND)
    ]


def test_what_a_machine_cannot_do_is_left_out_and_the_rest_is_played() -> None:
    planned = schedule(1, 0)
    first, second = planned.faults

    left = planned.without({first.kind})

    assert left.faults == (second,)
    assert not left.overlap
