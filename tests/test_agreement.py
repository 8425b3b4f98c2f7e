"""Agreement with the last exit: cautious until it is known, then kept, and kept after a drift."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from appliance.agreement import FEWEST_SAMPLES, MOST_RUN_ON, MOST_SAMPLES, Agreement, ExitAnswer

EXITS = 4


@dataclass
class Network:
    """Answers whose confidence is right: with a doubt of d, an exit is wrong d of the time.

    `overconfident` says how many times more often the early exits are wrong than they say.
    """

    seed: int = 0
    overconfident: float = 1.0
    shift: float = 0.0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def answers(self) -> list[ExitAnswer]:
        difficulty = self.random.beta(0.7 + self.shift, 1.5)
        doubts = [difficulty**2 / 3**exit_ for exit_ in range(EXITS - 1)]
        wrong = [self.random.random() < min(1.0, self.overconfident * doubt) for doubt in doubts]
        early = [
            ExitAnswer(int(is_wrong), 1.0 - doubt)
            for is_wrong, doubt in zip(wrong, doubts, strict=True)
        ]
        return [*early, ExitAnswer(0, 0.99)]


@dataclass
class Stream:
    """Requests of a network, one after the other, under an agreement keeper."""

    agreement: Agreement
    network: Network
    agreed: list[bool] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    run_on: list[bool] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)

    def run(self, requests: int) -> None:
        for _ in range(requests):
            trajectory = self.network.answers()
            is_sample = self.agreement.chooses()
            alarm = self.agreement.saw(trajectory[0].expected_accuracy)
            exit_ = self._leaves_at(trajectory)
            if is_sample:
                alarm |= self.agreement.learned(trajectory, answered_at=exit_)
            if alarm:
                self.alarms.append(len(self.exits))
            self.exits.append(exit_)
            self.agreed.append(trajectory[exit_].class_index == trajectory[-1].class_index)
            self.run_on.append(is_sample and exit_ < EXITS - 1)

    def _leaves_at(self, trajectory: list[ExitAnswer]) -> int:
        leaving = (
            exit_
            for exit_, answer in enumerate(trajectory[:-1])
            if self.agreement.may_leave(exit_, answer.expected_accuracy)
        )
        return next(leaving, EXITS - 1)


def a_stream(*, target: float = 0.99, seed: int = 0, **network: float) -> Stream:
    agreement = Agreement(target=target, exits=EXITS, seed=seed)
    return Stream(agreement, Network(seed, **network))


def test_until_enough_is_known_nothing_leaves_early() -> None:
    stream = a_stream()

    stream.run(FEWEST_SAMPLES - 1)

    assert set(stream.exits) == {EXITS - 1}
    assert stream.agreement.estimate().cautious
    assert stream.agreement.chosen == 1.0


def test_then_requests_leave_early_and_agree_as_often_as_is_asked() -> None:
    stream = a_stream()

    stream.run(20_000)

    estimate = stream.agreement.estimate()
    assert np.mean(stream.exits[FEWEST_SAMPLES:]) < 2.0
    assert np.mean(stream.agreed) >= 0.99
    assert estimate.low >= 0.99
    assert estimate.low <= estimate.agreement <= estimate.high
    assert not estimate.cautious


@pytest.mark.parametrize("target", [0.9, 0.95, 0.98])
def test_what_is_asked_decides_how_many_leave(target: float) -> None:
    stream, strict = a_stream(target=target), a_stream(target=0.995)

    stream.run(8000)
    strict.run(8000)

    assert np.mean(stream.agreed) >= target
    assert np.mean(stream.exits) < np.mean(strict.exits)


@pytest.mark.parametrize("seed", range(3))
def test_confidences_that_promise_too_much_are_not_believed(seed: int) -> None:
    stream = a_stream(seed=seed, overconfident=20.0)

    stream.run(15_000)

    assert np.mean(stream.agreed[-10_000:]) >= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_a_drift_that_confidences_show_brings_caution_at_once(seed: int) -> None:
    stream = a_stream(seed=seed)
    stream.run(5000)

    stream.network.shift = 2.0
    stream.run(1000)

    assert 5000 <= stream.alarms[0] < 5300
    assert stream.agreement.estimate().alarms == 1
    assert set(stream.exits[-500:]) == {EXITS - 1}


@pytest.mark.parametrize("seed", range(3))
def test_a_drift_that_confidences_hide_is_found_by_samples(seed: int) -> None:
    stream = a_stream(seed=seed)
    stream.run(5000)

    stream.network.overconfident = 60.0
    stream.run(20_000)

    assert np.mean(stream.agreed[-15_000:]) >= 0.99


def test_few_requests_are_run_on_for_the_samples_sake() -> None:
    stream = a_stream()

    stream.run(30_000)

    assert 0.5 * MOST_RUN_ON <= np.mean(stream.run_on[2000:10_000]) <= 1.3 * MOST_RUN_ON
    assert np.mean(stream.run_on[-2000:]) < 0.02


def test_the_sample_is_chosen_without_regard_to_the_request() -> None:
    one, other = a_stream(seed=3), a_stream(seed=3, overconfident=50.0)

    chosen = [stream.agreement.chooses() for stream in (one, other) for _ in range(100)]

    assert chosen[:100] == chosen[100:]


def test_no_more_samples_are_remembered_than_the_limit() -> None:
    stream = a_stream(target=1.0)

    stream.run(MOST_SAMPLES + 100)

    assert stream.agreement.estimate().samples == MOST_SAMPLES


def test_full_agreement_is_never_proven_and_so_nothing_leaves() -> None:
    stream = a_stream(target=1.0)

    stream.run(5000)

    assert set(stream.exits) == {EXITS - 1}


def test_a_deeper_exit_may_leave_with_more_doubt_than_the_first() -> None:
    stream = a_stream()
    stream.run(5000)

    thresholds = stream.agreement.estimate().thresholds

    assert thresholds is not None
    assert list(thresholds) == sorted(thresholds, reverse=True)


@pytest.mark.parametrize("exits", [1, 2])
def test_engines_of_few_exits_are_kept_too(exits: int) -> None:
    agreement = Agreement(target=0.99, exits=exits, seed=0)
    for _ in range(2000):
        agreement.learned([ExitAnswer(0, 0.99)] * exits, answered_at=exits - 1)

    estimate = agreement.estimate()

    assert estimate.thresholds is not None
    assert len(estimate.thresholds) == exits - 1


def test_the_same_seed_and_stream_decide_the_same() -> None:
    one, other = a_stream(seed=7), a_stream(seed=7)

    one.run(3000)
    other.run(3000)

    assert one.exits == other.exits
    assert one.agreement.estimate() == other.agreement.estimate()
