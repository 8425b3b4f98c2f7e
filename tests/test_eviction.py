"""Engines make room for others: no more of them than must, least recently used first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.eviction import Held, to_unload

HELD = st.lists(
    st.tuples(st.integers(0, 1000), st.floats(0.0, 1e6)), max_size=8, unique_by=lambda one: one[1]
).map(
    lambda ones: [
        Held(name=str(number), size_bytes=size_bytes, used_s=used_s)
        for number, (size_bytes, used_s) in enumerate(ones)
    ]
)
SIZES = st.integers(0, 3000)


def test_what_was_not_used_for_longest_goes_first() -> None:
    held = [
        Held(name="new", size_bytes=10, used_s=3.0),
        Held(name="old", size_bytes=10, used_s=1.0),
        Held(name="middle", size_bytes=10, used_s=2.0),
    ]

    assert to_unload(held, coming_bytes=10, limit_bytes=25) == ["old", "middle"]


@given(HELD, SIZES, SIZES)
def test_the_rest_keeps_within_the_limit_or_nothing_is_left(
    held: list[Held], coming_bytes: int, limit_bytes: int
) -> None:
    unloaded = to_unload(held, coming_bytes=coming_bytes, limit_bytes=limit_bytes)

    rest = [one for one in held if one.name not in unloaded]
    assert not rest or coming_bytes + sum(one.size_bytes for one in rest) <= limit_bytes


@given(HELD, SIZES, SIZES)
def test_no_more_go_than_must_and_none_before_one_that_was_used_less_lately(
    held: list[Held], coming_bytes: int, limit_bytes: int
) -> None:
    unloaded = to_unload(held, coming_bytes=coming_bytes, limit_bytes=limit_bytes)

    by_name = {one.name: one for one in held}
    rest = [one for one in held if one.name not in unloaded]
    assert all(by_name[name].used_s < one.used_s for name in unloaded for one in rest)
    if unloaded:
        kept_bytes = sum(one.size_bytes for one in [*rest, by_name[unloaded[-1]]])
        assert coming_bytes + kept_bytes > limit_bytes


@given(HELD, SIZES)
def test_without_a_limit_everything_stays(held: list[Held], coming_bytes: int) -> None:
    assert to_unload(held, coming_bytes=coming_bytes, limit_bytes=float("inf")) == []
