"""A heap whose entries can leave before they come to its top."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from appliance.lazy_heap import LazyHeap


@dataclass(eq=False)
class Guest:
    key: int
    here: bool = True


def a_heap() -> LazyHeap[Guest]:
    return LazyHeap(lambda _, guest: guest.here)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=300))
def test_those_who_are_still_here_come_in_order_of_their_keys(
    guests: list[tuple[int, bool]],
) -> None:
    heap, entered = a_heap(), [Guest(key) for key, _ in guests]
    for guest, (key, stays) in zip(entered, guests, strict=True):
        heap.push(key, guest)
        guest.here = stays

    left = []
    while (top := heap.pop()) is not None:
        left.append(top[1])

    assert left == sorted((guest for guest in entered if guest.here), key=lambda g: g.key)


def test_those_who_have_left_do_not_fill_the_memory() -> None:
    heap = a_heap()
    heap.push(0, Guest(0))

    for number in range(1, 10_000):
        guest = Guest(number)
        heap.push(number, guest)
        guest.here = False

    assert len(heap._items) < 200  # noqa: SLF001 - memory is what this is about
