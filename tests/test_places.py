"""Where features lie on a device: a property test against a memory that the copies are made in."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.backends.places import Copy, Features, Place, Places
from appliance.errors import EngineError

STAGES = 3
CAPACITY = 4


class Memory(RuleBasedStateMachine):
    """Frames come in, batches are made up at will, handles are dropped; no content may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places(stages=STAGES, capacity=CAPACITY, copy=self.copy)
        self.content: dict[Place, str] = {}
        self.held: dict[Features, str] = {}
        self.frames = 0
        self.is_full = False

    @rule()
    def feed(self) -> None:
        features = self.places.take_in()
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
        self.places.gather(stage, batch)
        inputs = [self.content[Place(stage, index)] for index in range(len(batch))]
        assert inputs == [self.held[features] for features in batch]
        for number in range(stage + 1, min(last + 2, STAGES)):
            self.places.clear(number, len(batch))
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

    @rule()
    def run_where_there_is_no_room_for_a_copy(self) -> None:
        self.is_full = True
        for stage in range(STAGES):
            with suppress(EngineError):
                self.places.clear(stage, CAPACITY)
            with suppress(EngineError):
                waiting = [features for features in self.held if features.stage == stage]
                self.places.gather(stage, waiting[::-1][:CAPACITY])
        self.is_full = False

    def copy(self, copy: Copy) -> None:
        if self.is_full:
            raise EngineError("the device has no memory left")
        assert copy.target not in {features.place for features in self.held}
        if copy.target.stage is None:
            # One slot for each item that is held, and one for another that is on its way.
            assert copy.target.index <= self.frames
        self.content[copy.target] = self.content[copy.source]


TestMemory = Memory.TestCase


@given(count=st.integers(1, CAPACITY))
def test_a_batch_that_goes_on_as_it_is_needs_no_copy(count: int) -> None:
    copies: list[Copy] = []
    places = Places(stages=STAGES, capacity=CAPACITY, copy=copies.append)
    batch = [places.take_in() for _ in range(count)]

    for stage in range(STAGES - 1):
        places.gather(stage, batch)
        places.clear(stage + 1, count)
        places.use_up(batch)
        batch = places.hand_on(stage + 1, count)

    assert copies == []


def test_features_that_were_used_up_have_no_place_to_be_moved_from() -> None:
    copies: list[Copy] = []
    places = Places(stages=STAGES, capacity=CAPACITY, copy=copies.append)
    features = places.take_in()
    places.use_up([features])

    with pytest.raises(ValueError, match="used up"):
        places.gather(0, [features])
