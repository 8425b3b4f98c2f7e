"""What networks answer in a simulation: recorded from frames, or drawn from the profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from appliance import manifest
from appliance.engine import Engine, ThresholdRow
from appliance.errors import WorkloadError
from appliance.workload.network import Network, drawn, network_of
from tests.engines import tiny_engine
from tests.factories import an_engine

ACCURACIES = (0.45, 0.68, 0.75, 0.77)


def right(network: Network) -> NDArray[np.bool_]:
    """Shape (frames, exits)."""
    return np.array(network.answers.argmax(axis=2) == network.classes[:, np.newaxis])


def confidence(network: Network, exit_: int) -> NDArray[np.float64]:
    logits = network.answers[:, exit_] / network.engine.stages[exit_].temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.array((exponentials / exponentials.sum(axis=1, keepdims=True)).max(axis=1))


def profiled() -> Engine:
    engine = an_engine(accuracies=ACCURACIES)
    return replace(engine, stages=tuple(replace(stage, temperature=0.7) for stage in engine.stages))


def test_drawn_answers_are_right_as_often_as_the_profile_says() -> None:
    network = drawn(profiled(), seed=1)

    assert right(network).mean(axis=0) == pytest.approx(ACCURACIES, abs=0.02)
    assert not network.recorded


def test_drawn_answers_are_as_sure_as_they_are_right() -> None:
    network = drawn(profiled(), seed=1)

    for exit_ in range(4):
        sure = confidence(network, exit_)
        for low, high in ((0.3, 0.6), (0.6, 0.8), (0.8, 1.0)):
            some = (sure >= low) & (sure < high)
            assert right(network)[some, exit_].mean() == pytest.approx(sure[some].mean(), abs=0.06)


def test_what_is_right_at_an_exit_is_so_at_the_surer_ones_behind_it() -> None:
    network = drawn(profiled(), seed=1)

    assert (np.diff(right(network).astype(int), axis=1) >= 0).all()


def test_drawn_frames_leave_as_the_threshold_table_says() -> None:
    rows = (
        ThresholdRow(threshold=0.6, exit_shares=(0.5, 0.3, 0.1, 0.1), accuracy=0.7, latency_s=0.1),
        ThresholdRow(threshold=0.9, exit_shares=(0.2, 0.3, 0.2, 0.3), accuracy=0.8, latency_s=0.1),
    )
    network = drawn(replace(profiled(), thresholds=rows), seed=1)

    for row in rows:
        reached = [confidence(network, exit_) >= row.threshold for exit_ in range(3)]
        leaves = np.argmax([*reached, np.ones(len(reached[0]), bool)], axis=0)
        shares = np.bincount(leaves, minlength=4) / len(leaves)
        assert shares == pytest.approx(row.exit_shares, abs=0.01)


def test_the_same_seed_draws_the_same_answers() -> None:
    first, again, other = (drawn(profiled(), seed=seed).answers for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_engines_own_frames_are_run_through_it(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    for label, grey in (("bright", 255), ("dark", 0)):
        (folder / "frames" / label).mkdir(parents=True)
        Image.new("L", (8, 8), grey).save(folder / "frames" / label / "0.png")

    network = network_of(manifest.load(folder), seed=1)

    assert network.recorded
    assert network.classes.tolist() == [2, 0]
    assert network.answers[0] == pytest.approx(np.outer([1, 2, 3, 4], [0, 1, 2]), abs=1e-5)
    assert network.answers[1] == pytest.approx(np.zeros((4, 3)), abs=1e-5)


def test_without_frames_and_profile_nothing_can_be_answered() -> None:
    engine = an_engine(accuracies=(0.5, None, 0.7, 0.8))

    with pytest.raises(WorkloadError, match="neither frames in class folders nor accuracies"):
        network_of(engine, seed=1)
