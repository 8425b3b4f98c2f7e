"""Loads played to policies: what queueing theory foretells, and what must always add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from appliance.device_budget import DeviceBudget
from appliance.errors import Code, WorkloadError
from appliance.plan import Plan
from appliance.workload.load import generated_load
from appliance.workload.scenario import Machine, Outcome, Scenario
from appliance.workload.trace import Arrival, Generated, Poisson
from tests.factories import a_plan, an_engine

ENGINE = an_engine(accuracies=(0.5, 0.7, 0.8, 0.9), stage_time_s=0.010)


def played(
    plans: Sequence[Plan], rate_hz: float, seconds: float, machine: Machine | None = None
) -> Outcome:
    machine = machine or Machine()
    by_tenant = {plan.policy.tenant: plan for plan in plans}
    trace = Generated(every=Poisson(rate_hz=rate_hz))
    load = generated_load(trace, by_tenant, seconds=seconds, seed=machine.seed)
    return Scenario(load.plans, machine).play(load.arrivals)


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_requests_of_a_network_with_one_exit_wait_as_in_an_md1_queue(utilisation: float) -> None:
    engine = an_engine(accuracies=(0.9,), energies_j=(0.1,), stage_time_s=0.010)
    plan = a_plan("queue: {limit: 10000}", engine=engine)

    tally = played([plan], utilisation / 0.010, 500.0).tallies["gate"]

    # Pollaczek-Khinchine for a constant service time.
    expected_s = utilisation * 0.010 / (2 * (1 - utilisation))
    wait_s = np.mean(tally.response_times_s) - 0.010
    assert wait_s == pytest.approx(expected_s, rel=0.06)
    assert tally.answers == len(tally.arrived_s)


def test_the_device_works_for_as_long_as_its_stages_take() -> None:
    plan = a_plan("exit_when: exit >= 1", engine=ENGINE)

    outcome = played([plan], 10.0, 200.0)

    assert outcome.busy == pytest.approx(10.0 * 2 * 0.010, rel=0.1)


def test_every_request_is_answered_or_rejected_and_every_joule_has_an_answer() -> None:
    plans = [a_plan(f"bounds: {{response_time: {30 + 20 * n}ms}}", tenant=f"t{n}", engine=ENGINE)
             for n in range(3)]  # fmt: skip

    outcome = played(plans, 50.0, 30.0)

    for tally in outcome.tallies.values():
        assert tally.answers + sum(tally.rejected.values()) == len(tally.arrived_s)
        assert tally.exit_counts().sum() == tally.answers == sum(tally.stopped_by.values())
        spent_j = tally.exit_counts() @ np.array(ENGINE.energy_to_j)
        assert tally.energy_j >= spent_j - 1e-9


def test_the_bound_kept_counts_rejected_requests_as_broken() -> None:
    plan = a_plan("bounds: {response_time: 30ms}", engine=ENGINE)

    tally = played([plan], 300.0, 20.0).tallies["gate"]

    assert tally.rejected[Code.TOO_MANY] > 0
    assert tally.bound_kept == pytest.approx(tally.answers / len(tally.arrived_s))


def test_accuracy_is_that_of_the_exits_that_answer() -> None:
    shallow = a_plan("exit_when: exit >= 0", tenant="shallow", engine=ENGINE)
    deep = a_plan("", tenant="deep", engine=ENGINE)

    tallies = played([shallow, deep], 5.0, 1000.0).tallies

    assert tallies["shallow"].accuracy == pytest.approx(0.5, abs=0.03)
    assert tallies["deep"].accuracy == pytest.approx(0.9, abs=0.02)


def test_modes_share_the_time_that_they_are_in_force() -> None:
    text = (
        "modes: {quick: {exit_when: exit >= 0}}\n"
        "adapt: [{use: quick, when: arrival_rate > 5/s, hold: 5s}]"
    )
    plan = a_plan(text, engine=ENGINE)
    burst = [Arrival(at_s=number / 10, tenant="gate") for number in range(100, 300)]
    arrivals = [*burst, Arrival(at_s=100.0, tenant="gate")]

    outcome = Scenario({"gate": plan}, Machine()).play(arrivals)

    shares = outcome.tallies["gate"].mode_shares()
    # The rate of ten seconds passes 5/s five seconds into the burst, and five after its end.
    assert shares["quick"] == pytest.approx(0.20, abs=0.02)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_devices_budget_is_kept() -> None:
    plan = a_plan("budget: {energy: 1kJ, per: 1h, exhausted: reject}", engine=ENGINE)
    machine = Machine(budget=DeviceBudget(energy_j=5.0, per_s=3600.0))

    tally = played([plan], 10.0, 100.0, machine).tallies["gate"]

    assert tally.energy_j <= 5.0
    assert tally.rejected[Code.TOO_MANY] > 0


def test_a_slower_machine_answers_later() -> None:
    plan = a_plan("", engine=ENGINE)

    once, thrice = (
        played([plan], 1.0, 100.0, Machine(pace=pace)).tallies["gate"].percentile_s(50)
        for pace in (1.0, 3.0)
    )

    assert (once, thrice) == pytest.approx((0.040, 0.120), rel=0.05)


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    plan = a_plan("bounds: {response_time: 60ms}", engine=ENGINE)

    first, again, other = (
        list(played([plan], 40.0, 20.0, Machine(seed=seed)).tallies["gate"].response_times_s)
        for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_tenants_on_several_engines_share_the_device() -> None:
    other = an_engine(name="other", accuracies=(0.6, 0.9), energies_j=(0.1, 0.1))
    plans = [a_plan("", engine=ENGINE), a_plan("", tenant="meter", engine=other)]

    tallies = played(plans, 5.0, 50.0).tallies

    assert tallies["gate"].exit_counts().tolist()[:3] == [0, 0, 0]
    assert tallies["meter"].exit_counts()[0] == 0
    assert max(tallies["meter"].response_times_s) > 0.020 + 0.005


def test_a_label_asks_for_a_frame_that_shows_it() -> None:
    engine = replace(ENGINE, labels=("cat", "dog"))
    scenario = Scenario({"gate": a_plan("", engine=engine)}, Machine())

    with pytest.raises(WorkloadError, match="no frame of resnet50 shows the label cow"):
        scenario.play([Arrival(at_s=0.0, tenant="gate", label="cow")])


def test_answers_that_come_along_are_the_ones_given() -> None:
    engine = replace(ENGINE, labels=("cat", "dog"))
    plan = a_plan("exit_when: confidence > 0.9", engine=engine)
    surer = np.array([[0, 0], [9, 0], [9, 0], [9, 0]], np.float32)
    arrivals = [
        Arrival(at_s=0.0, tenant="gate", label="cat", answers=surer),
        Arrival(at_s=1.0, tenant="gate", label="dog", answers=surer),
    ]

    tally = Scenario({"gate": plan}, Machine()).play(arrivals).tallies["gate"]

    assert tally.exit_counts().tolist() == [0, 2, 0, 0]
    assert (tally.accuracy, tally.agreement) == (0.5, 1.0)


def test_answers_are_compared_with_the_last_exits() -> None:
    plan = a_plan("exit_when: exit >= 0", engine=ENGINE)
    steady = np.array([[9, 0]] * 4, np.float32)
    turning = np.array([[9, 0], [0, 9], [0, 9], [0, 9]], np.float32)
    arrivals = [
        Arrival(at_s=float(number), tenant="gate", answers=answers)
        for number, answers in enumerate([steady, steady, steady, turning])
    ]

    tally = Scenario({"gate": plan}, Machine()).play(arrivals).tallies["gate"]

    assert tally.agreement == 0.75


def test_a_policy_that_asks_for_agreement_gets_it() -> None:
    plan = a_plan("bounds: {agreement: 95%}\nexit_when: exit >= 0", engine=ENGINE)

    tally = played([plan], 10.0, 1500.0).tallies["gate"]

    assert tally.agreement is not None
    assert tally.agreement >= 0.94
    assert tally.answers == len(tally.arrived_s)


def test_answers_must_have_the_networks_exits() -> None:
    answers = np.zeros((2, 2), np.float32)
    scenario = Scenario({"gate": a_plan("", engine=ENGINE)}, Machine())

    with pytest.raises(WorkloadError, match="answers of 2 exits, but resnet50 has 4"):
        scenario.play([Arrival(at_s=0.0, tenant="gate", answers=answers)])
