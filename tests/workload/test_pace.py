"""Stage times on a simulated machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliance.engine import Engine, Latency
from appliance.errors import WorkloadError
from appliance.workload.pace import StagePace
from tests.factories import an_engine


def an_engine_with(latency: dict[int, Latency]) -> Engine:
    engine = an_engine(accuracies=(0.9,), energies_j=(0.1,))
    return replace(engine, stages=(replace(engine.stages[0], latency=latency),))


PROFILED = {
    1: Latency(p50_s=0.010, p95_s=0.012),
    4: Latency(p50_s=0.022, p95_s=0.022),
}


def test_noisy_times_have_the_profiles_median_and_95th_percentile() -> None:
    pace = StagePace(an_engine_with(PROFILED), pace=1.0, noisy=True, seed=1)

    times_s = [pace.duration_s(0, 1) for _ in range(20_000)]

    assert np.percentile(times_s, [50, 95]) == pytest.approx([0.010, 0.012], rel=0.01)
    assert pace.busy_s == pytest.approx(sum(times_s))


@pytest.mark.parametrize(("size", "expected_s"), [(1, 0.010), (2, 0.014), (4, 0.022), (8, 0.044)])
def test_batches_lie_between_the_profiled_ones_or_in_proportion(
    size: int, expected_s: float
) -> None:
    pace = StagePace(an_engine_with(PROFILED), pace=1.0, noisy=False, seed=1)

    assert pace.duration_s(0, size) == pytest.approx(expected_s)


def test_a_slower_machine_takes_so_many_times_as_long() -> None:
    pace = StagePace(an_engine_with(PROFILED), pace=2.5, noisy=False, seed=1)

    assert pace.duration_s(0, 1) == pytest.approx(0.025)


def test_a_stage_that_was_not_timed_is_named() -> None:
    with pytest.raises(WorkloadError, match="does not tell how long stage 0 takes"):
        StagePace(an_engine_with({}), pace=1.0, noisy=True, seed=1)
