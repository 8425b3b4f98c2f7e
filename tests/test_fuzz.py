"""The fuzzing's corpus and a few seeded mutations of it; and that the run notices what is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.errors import Rejected
from tests.fuzz import campaign, pieces
from tests.fuzz.target import Check, Target
from tests.fuzz.targets import TARGETS

FILES = [pytest.param(name, file, id=f"{name}/{file.name}") for name in TARGETS
         for file in TARGETS[name].files()]  # fmt: skip


@pytest.mark.parametrize(("name", "file"), FILES)
def test_nothing_in_the_corpus_is_a_find(name: str, file: Path) -> None:
    assert campaign.failure(TARGETS[name], file.read_bytes()) is None


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str) -> None:
    outcome = campaign.run(TARGETS[name], count=60, seed=3)

    assert outcome.finds == ()
    assert outcome.inputs == 60


def test_the_same_seed_gives_the_same_inputs() -> None:
    target = TARGETS["policies"]
    examples = target.examples()

    def inputs(seed: int) -> list[bytes]:
        return [
            campaign.mutated(target, seed=seed, index=index, examples=examples)
            for index in range(100, 120)
        ]

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


WHOLE = [file for file in TARGETS["frames"].files() if file.suffix]
"""Those with a name of their own; the others were broken by fuzzing."""


@pytest.mark.parametrize("file", WHOLE, ids=lambda file: str(file.name))
def test_a_file_taken_to_pieces_and_put_together_is_the_same(file: Path) -> None:
    data = file.read_bytes()

    assert pieces.rejoined(data) == data


def broken(check: Check) -> Target:
    return Target(name="topics", check=check, mutations=TARGETS["topics"].mutations)


def test_an_error_that_is_not_our_own_is_a_find() -> None:
    def check(data: bytes) -> None:
        data.decode("ascii")
        raise Rejected  # type: ignore[call-arg]

    outcome = campaign.run(broken(check), count=1, seed=1)

    assert "TypeError" in outcome.finds[0].what


def test_a_hang_is_a_find_even_where_all_exceptions_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(campaign, "HANG_S", 0.05)

    def check(_data: bytes) -> None:
        while True:
            try:
                random.Random(1).random()
            except Exception:  # noqa: BLE001, S112 - as a decoder's door does
                continue

    outcome = campaign.run(broken(check), count=1, seed=1)

    assert "interrupted" in outcome.finds[0].what


def test_growing_memory_is_a_find() -> None:
    kept = []

    def check(_data: bytes) -> None:
        kept.append(bytearray(b"x") * 400_000)

    outcome = campaign.run(broken(check), count=60, seed=1)

    assert "memory grew" in outcome.finds[-1].what
