"""Joules: nothing is lost or made up between the meter's total and the accounts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.energy import IDLE, UNATTRIBUTED, Energy, EnergySource, StageRun

RAILS = ("VDD_IN",)


def a_run(
    started_s: float,
    ended_s: float,
    *,
    tenant: str | None = "gate",
    modelled_j: float | None = 0.01,
    engine: str = "net",
    begins: bool = False,
) -> StageRun:
    return StageRun(
        tenant=tenant,
        engine=engine,
        modelled_j=modelled_j,
        started_s=started_s,
        ended_s=ended_s,
        begins=begins,
    )


class Metered:
    """An energy that is sampled every 100 ms, idle at 4 W for its first second."""

    def __init__(self) -> None:
        self.energy = Energy()
        self.now_s = 0.0
        for _ in range(11):
            self.sample(4.0)

    def sample(self, watts: float, *, after_s: float = 0.1) -> None:
        self.now_s += after_s
        self.energy.sample(self.now_s, watts, RAILS)

    def work(self, *, tenant: str = "gate", modelled_j: float = 0.01, watts: float = 6.0) -> None:
        """One slice in which a single stage of 50 ms ran."""
        run = a_run(self.now_s + 0.02, self.now_s + 0.07, tenant=tenant, modelled_j=modelled_j)
        self.energy.ran(run)
        self.sample(watts)


def measured_sum(energy: Energy) -> float:
    return math.fsum(spent.measured_j for spent in energy.spent.values())


def test_an_idle_machine_spends_on_its_own_account() -> None:
    metered = Metered()

    assert metered.energy.idle_w == pytest.approx(4.0)
    assert metered.energy.spent[IDLE].measured_j == pytest.approx(4.0)
    assert metered.energy.integrated_j == pytest.approx(4.0)


def test_what_lies_above_the_baseline_goes_to_the_stage_that_ran() -> None:
    metered = Metered()
    metered.sample(6.0)
    metered.work(watts=6.0)

    spent = metered.energy.spent

    # In the slice 0.6 J were spent, of which 0.4 J were the idle machine's.
    assert spent["gate"].measured_j == pytest.approx(0.2)


def test_two_tenants_in_one_slice_share_by_their_profiled_energy() -> None:
    metered = Metered()
    metered.sample(7.0)
    now_s = metered.now_s
    metered.energy.ran(a_run(now_s + 0.01, now_s + 0.02, tenant="gate", modelled_j=0.01))
    metered.energy.ran(a_run(now_s + 0.02, now_s + 0.03, tenant="meter", modelled_j=0.02))
    metered.sample(7.0)

    spent = metered.energy.spent

    assert spent["gate"].measured_j == pytest.approx(0.1)
    assert spent["meter"].measured_j == pytest.approx(0.2)


def test_a_stage_over_two_slices_is_charged_in_both_by_its_overlap() -> None:
    metered = Metered()
    metered.sample(6.0)
    now_s = metered.now_s
    run = a_run(now_s + 0.05, now_s + 0.15)
    metered.energy.ran(run)
    metered.sample(6.0)
    first_j = run.settled_j
    metered.sample(6.0)

    assert run.settled == pytest.approx(1.0)
    assert first_j == pytest.approx(0.2)
    assert run.settled_j == pytest.approx(0.4)


def test_power_without_work_is_unattributed() -> None:
    metered = Metered()
    metered.sample(9.0)
    metered.sample(9.0)

    # The slices 0.65 J and 0.9 J, less 0.4 J each.
    assert metered.energy.spent[UNATTRIBUTED].measured_j == pytest.approx(0.75)


def test_a_negative_reading_counts_as_none() -> None:
    metered = Metered()
    metered.sample(-2.0)

    assert metered.energy.integrated_j == pytest.approx(4.0 + 0.2)


def test_without_a_meter_the_profile_is_charged_at_once() -> None:
    energy = Energy()
    run = a_run(1.0, 1.01)
    energy.ran(run)

    assert energy.spent["gate"].modelled_j == pytest.approx(0.01)
    assert energy.of([run]) == (0.01, EnergySource.MODELLED)
    assert energy.integrated_j == 0.0


def test_a_request_costs_its_profile_scaled_by_what_is_lately_measured() -> None:
    metered = Metered()
    metered.sample(6.0)
    for _ in range(20):
        metered.work(modelled_j=0.01, watts=6.0)
    run = a_run(metered.now_s, metered.now_s + 0.005, modelled_j=0.01)
    metered.energy.ran(run)

    joules, source = metered.energy.of([run])

    assert source is EnergySource.CALIBRATED
    assert joules == pytest.approx(0.2)
    assert metered.energy.cost("net").ratio == pytest.approx(20.0)


def test_the_ratio_follows_what_the_machine_does_now() -> None:
    metered = Metered()
    for _ in range(50):
        metered.work(watts=6.0)
    for _ in range(600):
        metered.work(watts=5.0)

    assert metered.energy.cost("net").ratio == pytest.approx(10.0, rel=0.02)


def test_a_request_that_the_meter_has_seen_is_measured() -> None:
    metered = Metered()
    metered.sample(6.0)
    run = a_run(metered.now_s, metered.now_s + 1.05)
    # It is told of when it ends, before the samples that came meanwhile.
    metered.energy.ran(run)
    for _ in range(10):
        metered.sample(6.0)

    joules, source = metered.energy.of([run])

    assert source is EnergySource.MEASURED
    assert joules == pytest.approx(2.0, rel=0.05)


def test_a_meter_that_fell_silent_leaves_the_profile_and_comes_back() -> None:
    metered = Metered()
    for _ in range(20):
        metered.work(watts=6.0)
    metered.now_s += 3.0
    run = a_run(metered.now_s - 2.0, metered.now_s - 1.9, modelled_j=0.5)
    metered.energy.ran(run)
    metered.energy.tick(metered.now_s)
    while_away = metered.energy.of([a_run(0.0, 0.1, modelled_j=0.01)])
    metered.sample(6.0)
    integrated_j = metered.energy.integrated_j
    metered.work(watts=6.0)

    assert run.settled_j == 0.5
    assert while_away == (0.01, EnergySource.MODELLED)
    assert metered.energy.spent["gate"].modelled_j == pytest.approx(0.5)
    assert metered.energy.integrated_j - integrated_j == pytest.approx(0.6)


def test_rails_that_appear_or_vanish_leave_a_gap_and_a_baseline_of_their_own() -> None:
    metered = Metered()
    integrated_j = metered.energy.integrated_j
    metered.energy.sample(metered.now_s + 0.1, 20.0, ("VIN",))

    assert metered.energy.integrated_j == integrated_j
    assert metered.energy.idle_w is None

    for number in range(2, 13):
        metered.energy.sample(metered.now_s + number / 10, 20.0, ("VIN",))

    assert metered.energy.idle_w == pytest.approx(20.0)
    assert metered.energy.spent[UNATTRIBUTED].measured_j == 0.0


def test_before_there_is_a_baseline_work_is_charged_by_its_profile() -> None:
    energy = Energy()
    energy.sample(0.0, 6.0, RAILS)
    energy.ran(a_run(0.01, 0.02))
    energy.sample(0.1, 6.0, RAILS)

    assert energy.spent["gate"].modelled_j == pytest.approx(0.01)
    assert energy.spent[UNATTRIBUTED].measured_j == pytest.approx(0.6)


def test_a_stage_without_a_profile_is_charged_what_the_meter_saw() -> None:
    metered = Metered()
    metered.sample(6.0)
    run = a_run(metered.now_s + 0.02, metered.now_s + 0.07, modelled_j=None)
    metered.energy.ran(run)
    before = metered.energy.of([run])
    metered.sample(6.0)
    joules, source = metered.energy.of([run])

    assert before == (None, EnergySource.MODELLED)
    assert joules == pytest.approx(0.2)
    assert source is EnergySource.MEASURED


class Served(Metered):
    """One whose stages draw 10 W for their time, and whose requests take 0.1 J beside them."""

    def __init__(self) -> None:
        super().__init__()
        self._last_w = 4.0
        for _ in range(20):
            self.slice(stages=4, requests=0, tenant=None)

    def slice(self, *, stages: int, requests: int, tenant: str | None = "gate") -> None:
        for number in range(stages):
            started_s = self.now_s + 0.01 + number * 0.01
            run = a_run(started_s, started_s + 0.01, tenant=tenant, begins=number < requests)
            self.energy.ran(run)
        joules = 0.4 + stages * 0.1 + requests * 0.1
        # The trapezoid over the slice is to have that area.
        self._last_w = 2.0 * joules / 0.1 - self._last_w
        self.sample(self._last_w)


def test_what_a_request_takes_beside_its_stages_is_told_apart_from_them() -> None:
    served = Served()
    for _ in range(100):
        served.slice(stages=4, requests=1)

    cost = served.energy.cost("net")

    assert cost.ratio == pytest.approx(10.0, rel=0.05)
    assert cost.request_j == pytest.approx(0.1, rel=0.2)


def test_a_first_exit_is_known_to_be_dear_while_all_answers_are_deep() -> None:
    served = Served()
    for _ in range(100):
        served.slice(stages=4, requests=1)
    first = a_run(served.now_s, served.now_s + 0.001, begins=True)
    served.energy.ran(first)

    joules, _ = served.energy.of([first])

    assert joules == pytest.approx(0.2, rel=0.15)


def test_a_request_that_is_received_for_nothing_is_charged_to_nobody() -> None:
    served = Served()
    for _ in range(100):
        served.slice(stages=4, requests=1)
    before_j = served.energy.spent_j("gate")
    lost_j = served.energy.spent[UNATTRIBUTED].measured_j
    now_s = served.now_s + 0.05
    served.energy.ran(a_run(now_s, now_s, tenant=None, modelled_j=None, begins=True))
    served.slice(stages=4, requests=0)

    # Of the slice 0.5 J are shared, by weights of 4 times 0.1 and once 0.1.
    assert served.energy.spent_j("gate") - before_j == pytest.approx(0.32, rel=0.1)
    assert served.energy.spent[UNATTRIBUTED].measured_j - lost_j == pytest.approx(0.08, rel=0.3)


def test_what_is_not_written_yet_is_handed_out_once() -> None:
    metered = Metered()
    metered.work()

    first, second = metered.energy.take_unwritten(), metered.energy.take_unwritten()

    assert first["gate"].measured_j == metered.energy.spent["gate"].measured_j
    assert second == {}


runs = st.lists(
    st.tuples(
        st.floats(0.0, 0.3),  # the pause before it
        st.floats(0.0, 0.4),  # its duration
        st.sampled_from(["gate", "meter", None]),
        st.none() | st.floats(0.0, 2.0),
        st.sampled_from(["net", "other"]),
        st.booleans(),  # whether a request begins with it
    ),
    max_size=40,
)
curve = st.lists(
    st.tuples(
        st.floats(0.001, 1.2),  # since the last sample
        st.floats(-5.0, 60.0),
        st.sampled_from([RAILS, RAILS, RAILS, ("VIN",)]),
    ),
    max_size=60,
)


def _played(
    energy: Energy,
    schedule: Sequence[tuple[float, float, str | None, float | None, str, bool]],
    samples: Sequence[tuple[float, float, tuple[str, ...]]],
    *,
    held_up: bool,
) -> tuple[list[StageRun], float]:
    """Tells of runs and samples in turn; the runs, and the true integral.

    Where samples are `held_up`, one that comes while a stage runs is dealt with after it, as the
    executor's thread does.
    """
    told, now_s = list[StageRun](), 0.0
    for pause_s, duration_s, tenant, modelled_j, engine, begins in schedule:
        start_s = now_s + pause_s
        now_s = start_s + duration_s
        run = a_run(start_s, now_s, tenant=tenant, modelled_j=modelled_j, engine=engine)
        run.begins = begins
        told.append(run)
    events: list[tuple[float, int, object]] = [(run.ended_s, 0, run) for run in told]
    time_s, before, integral_j = 0.0, None, 0.0
    for after_s, watts, rails in samples:
        before_s, time_s = time_s, time_s + after_s
        # As far apart as their times are, which rounding makes a little more or less.
        apart_s = time_s - before_s
        until_s = [run.ended_s for run in told if run.started_s <= time_s < run.ended_s]
        dealt_with_s = until_s[0] if held_up and until_s else time_s
        events.append((dealt_with_s, 1, (time_s, watts, rails)))
        if before is not None and before[1] == rails and apart_s <= energy.max_gap_s:
            integral_j += (max(0.0, before[0]) + max(0.0, watts)) / 2 * apart_s
        before = (watts, rails)
    for _, _, event in sorted(events, key=lambda event: event[:2]):
        if isinstance(event, StageRun):
            energy.ran(event)
        else:
            energy.sample(*event)  # type: ignore[misc]
    energy.tick(max(now_s, time_s) + 10.0)
    return told, integral_j


@given(runs, curve, st.booleans())
def test_the_accounts_add_up_to_what_the_meter_saw_for_every_schedule_and_curve(
    schedule: list[tuple[float, float, str | None, float | None, str, bool]],
    samples: list[tuple[float, float, tuple[str, ...]]],
    held_up: bool,  # noqa: FBT001
) -> None:
    energy = Energy()

    told, integral_j = _played(energy, schedule, samples, held_up=held_up)

    assert energy.integrated_j == pytest.approx(integral_j, rel=1e-9, abs=1e-9)
    assert measured_sum(energy) == pytest.approx(energy.integrated_j, rel=1e-9, abs=1e-9)
    for account in ("gate", "meter"):
        of_runs = math.fsum(run.settled_j for run in told if run.tenant == account)
        assert energy.spent_j(account) == pytest.approx(of_runs, rel=1e-9, abs=1e-9)
    for run in told:
        assert run.settled == pytest.approx(1.0)
        assert run.settled_j >= -1e-12


@given(st.lists(st.floats(0.0, 50.0), min_size=2, max_size=50))
def test_the_integral_is_the_trapezoidal_rule(watts: list[float]) -> None:
    energy = Energy()
    for number, power_w in enumerate(watts):
        energy.sample(number * 0.1, power_w, RAILS)

    times_s = np.arange(len(watts)) * 0.1

    assert energy.integrated_j == pytest.approx(float(np.trapezoid(watts, times_s)), rel=1e-9)


def test_a_run_of_no_length_where_a_slice_ends_is_settled_with_the_next() -> None:
    energy = Energy()
    run = StageRun(
        tenant="gate", engine="net", modelled_j=0.5, started_s=0.75, ended_s=0.75, begins=True
    )

    energy.sample(0.25, 0.0, RAILS)
    energy.ran(run)
    energy.tick(10.0)

    assert (run.settled, energy.spent_j("gate")) == (1.0, 0.5)
