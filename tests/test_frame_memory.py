"""The memory of waiting frames: bounded, and never all of it one tenant's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.frame_memory import FrameMemory

MAX_BYTES = 1000

STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 300), st.booleans()))


@given(steps=STEPS)
def test_what_waits_stays_below_the_bound_and_all_comes_back(
    steps: list[tuple[str, int, bool]],
) -> None:
    memory = FrameMemory(MAX_BYTES)
    held: list[tuple[str, int]] = []

    for tenant, size_bytes, gives_back in steps:
        if gives_back and held:
            memory.give_back(*held.pop())
        elif memory.take(tenant, size_bytes):
            held.append((tenant, size_bytes))
        assert memory.held_bytes == sum(size for _, size in held) <= MAX_BYTES
    for item in held:
        memory.give_back(*item)

    assert memory.held_bytes == 0


def test_a_tenant_alone_gets_half_and_another_still_finds_room() -> None:
    memory = FrameMemory(MAX_BYTES)

    flood = sum(memory.take("flood", 100) for _ in range(100))
    gate = memory.take("gate", 100)

    assert flood == 5
    assert gate


def test_a_frame_of_any_size_may_wait_alone() -> None:
    memory = FrameMemory(MAX_BYTES)

    alone = memory.take("gate", 10 * MAX_BYTES)

    assert alone
    assert not memory.take("other", 1)
