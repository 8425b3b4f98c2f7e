"""Where features lie on a device: a property test against a memory that the copies are made in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.backends.places import Copy, Features, Place, Places

STAGES = 3
CAPACITY = 4


class Memory(RuleBasedStateMachine):
    """Frames come in, batches are made up at will, handles are dropped; no content may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places(stages=STAGES, capacity=CAPACITY, slots=2)
        self.content: dict[Place, str] = {}
        self.held: dict[Features, str] = {}
        self.frames = 0

    @rule()
    def feed(self) -> None:
        features, copies = self.places.take_in()
        self.copy(copies)
        assert features.place is not None
        self.frames += 1
        self.content[features.place] = self.held[features] = f"frame {self.frames}"

    @rule(data=st.data(), through=st.integers(0, STAGES - 1))
    def run(self, data: st.DataObject, through: int) -> None:
        stage = data.draw(st.integers(0, STAGES - 1))
        last = max(stage, through)
        candidates = [features for features in self.held if features.stage == stage]
        batch = data.draw(st.permutations(candidates))[:CAPACITY]
        if not batch:
            return
        self.copy(self.places.gather(stage, batch))
        inputs = [self.content[Place(stage, index)] for index in range(len(batch))]
        assert inputs == [self.held[features] for features in batch]
        for number in range(stage + 1, min(last + 2, STAGES)):
            self.copy(self.places.clear(number, len(batch)))
            for index in range(len(batch)):
                self.content[Place(number, index)] = f"{inputs[index]} at {number}"
        self.places.use_up(batch)
        for features in batch:
            del self.held[features]
        if last + 1 < STAGES:
            following = self.places.hand_on(last + 1, len(batch))
            for features, given in zip(following, inputs, strict=True):
                self.held[features] = f"{given} at {last + 1}"

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.held:
            index = data.draw(st.integers(0, len(self.held) - 1))
            self.held.pop(list(self.held)[index])

    @invariant()
    def what_is_held_is_kept(self) -> None:
        for features, content in self.held.items():
            assert features.place is not None
            assert self.content[features.place] == content

    @invariant()
    def no_more_slots_than_were_ever_needed(self) -> None:
        assert self.places.slots <= max(2, self.frames)

    def copy(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self.content[copy.target] = self.content[copy.source]


TestMemory = Memory.TestCase


@given(count=st.integers(1, CAPACITY))
def test_a_batch_that_goes_on_as_it_is_needs_no_copy(count: int) -> None:
    places = Places(stages=STAGES, capacity=CAPACITY, slots=2)
    batch = [places.take_in()[0] for _ in range(count)]

    for stage in range(STAGES - 1):
        assert places.gather(stage, batch) == []
        assert places.clear(stage + 1, count) == []
        places.use_up(batch)
        batch = places.hand_on(stage + 1, count)


def test_features_that_were_used_up_have_no_place_to_be_moved_from() -> None:
    places = Places(stages=STAGES, capacity=CAPACITY, slots=2)
    features, _ = places.take_in()
    places.use_up([features])

    with pytest.raises(ValueError, match="used up"):
        places.gather(0, [features])
