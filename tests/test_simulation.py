"""Whole loads under a simulated clock: nothing lost, nobody starved, every promise kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from appliance.engine import Engine
from appliance.errors import Code
from appliance.plan import Plan
from appliance.simulation import SimulatedRequest, Simulation
from appliance.task import Task
from tests.factories import a_plan, an_engine

STAGE_S = 0.010
ENGINE = an_engine(accuracies=(0.5, 0.7, 0.8, 0.9), stage_time_s=STAGE_S)
GENERATED = (Phase.explicit, Phase.reuse, Phase.generate)
"""Whole loads are shrunk by hand: each takes too long to be run a thousand times."""

UNSURE = np.zeros((4, 2), np.float32)


@dataclass
class Outcome:
    finished: list[Task] = field(default_factory=list)
    rejected: list[tuple[Task, Code]] = field(default_factory=list)

    def of(self, tenant: str) -> list[Task]:
        return [task for task in self.finished if task.request.tenant == tenant]

    def codes(self, tenant: str) -> Counter[Code]:
        return Counter(code for task, code in self.rejected if task.request.tenant == tenant)


def a_policy(tenant: str, text: str, engine: Engine = ENGINE) -> Plan:
    return a_plan(text, engine=engine, tenant=tenant)


def play(
    plans: Sequence[Plan], requests: Sequence[SimulatedRequest], *, pace: float = 1.0
) -> Outcome:
    """What becomes of requests where every stage takes `pace` times what the profile says."""
    outcome = Outcome()
    simulation = Simulation(
        finished=outcome.finished.append,
        rejected=lambda task, code, _detail: outcome.rejected.append((task, code)),
    )
    simulation.add(ENGINE, lambda _stage, _size: STAGE_S * pace)
    simulation.put_in_force({plan.policy.tenant: plan for plan in plans})
    simulation.run(requests)
    return outcome


def poisson(rates_hz: Mapping[str, float], seconds: float, seed: int = 1) -> list[SimulatedRequest]:
    requests: list[SimulatedRequest] = []
    for tenant, rate_hz in rates_hz.items():
        chance, time_s = random.Random(f"{seed} {tenant}"), 0.0
        while (time_s := time_s + chance.expovariate(rate_hz)) < seconds:
            name = f"{tenant} {len(requests)}"
            requests.append(SimulatedRequest(at_s=time_s, tenant=tenant, answers=UNSURE, name=name))
    return sorted(requests, key=lambda request: request.at_s)


def p99_s(tasks: Sequence[Task]) -> float:
    times_s = [task.metrics.response_time for task in tasks if task.metrics is not None]
    return float(np.percentile(times_s, 99))


def mean_exit(tasks: Sequence[Task]) -> float:
    return float(np.mean([task.metrics.exit for task in tasks if task.metrics is not None]))


tenants = st.fixed_dictionaries(
    {
        "bound_ms": st.one_of(st.none(), st.integers(12, 400)),
        "floor": st.sampled_from([None, 0.6, 0.85]),
        "exit_when": st.sampled_from([None, "exit >= 1", "confidence > 0.9"]),
        "priority": st.integers(0, 2),
        "weight": st.sampled_from([0.5, 1.0, 4.0]),
        "limit": st.sampled_from([1, 4, 32]),
        "full": st.sampled_from(["drop-oldest", "reject"]),
        "rate_hz": st.floats(1.0, 120.0),
    }
)


def plan_of(tenant: str, wishes: Mapping[str, object]) -> Plan:
    bounds = []
    if wishes["bound_ms"] is not None:
        bounds.append(f"response_time: {wishes['bound_ms']}ms")
    if wishes["floor"] is not None:
        bounds.append(f"accuracy: {wishes['floor']}")
    lines = [
        f"bounds: {{{', '.join(bounds)}}}",
        f"priority: {wishes['priority']}",
        f"weight: {wishes['weight']}",
        f"queue: {{limit: {wishes['limit']}, full: {wishes['full']}}}",
    ]
    if wishes["exit_when"] is not None:
        lines.append(f"exit_when: {wishes['exit_when']}")
    return a_policy(tenant, "\n".join(lines))


@settings(max_examples=60, deadline=None, phases=GENERATED)
@given(st.lists(tenants, min_size=1, max_size=5), st.integers(0, 1000))
def test_no_task_is_lost_or_dealt_with_twice_and_every_bound_is_kept(
    wishes: list[Mapping[str, object]], seed: int
) -> None:
    plans = [plan_of(f"t{number}", wish) for number, wish in enumerate(wishes)]
    rates_hz = {f"t{n}": float(str(wish["rate_hz"])) for n, wish in enumerate(wishes)}
    requests = poisson(rates_hz, 3.0, seed)

    outcome = play(plans, requests)

    dealt_with = Counter(task.request.id for task in outcome.finished)
    dealt_with.update(task.request.id for task, _ in outcome.rejected)
    assert dealt_with == Counter(request.name for request in requests)
    for task in outcome.finished:
        assert task.metrics is not None
        assert "response_time" not in task.plan.unmet(task.metrics)
    # Where stages take what they were estimated at, whoever is admitted is answered in time.
    assert all(code is Code.TOO_MANY for _, code in outcome.rejected)


@settings(max_examples=20, deadline=None, phases=GENERATED)
@given(st.lists(tenants, min_size=1, max_size=4), st.integers(0, 1000), st.floats(0.3, 3.0))
def test_whatever_the_machine_no_answer_is_late(
    wishes: list[Mapping[str, object]], seed: int, pace: float
) -> None:
    plans = [plan_of(f"t{number}", wish) for number, wish in enumerate(wishes)]
    rates_hz = {f"t{n}": float(str(wish["rate_hz"])) for n, wish in enumerate(wishes)}
    requests = poisson(rates_hz, 2.0, seed)

    outcome = play(plans, requests, pace=pace)

    assert len(outcome.finished) + len(outcome.rejected) == len(requests)
    for task in outcome.finished:
        assert task.metrics is not None
        assert "response_time" not in task.plan.unmet(task.metrics)


def test_an_idle_appliance_goes_as_deep_as_the_bound_allows() -> None:
    plan = a_policy("gate", "bounds: {response_time: 35ms}")

    outcome = play([plan], poisson({"gate": 1.0}, 20.0))

    assert {task.metrics.exit for task in outcome.finished if task.metrics} == {2}


def test_under_overload_answers_come_from_earlier_exits_rather_than_late() -> None:
    plans = [a_policy(f"t{n}", "bounds: {response_time: 100ms}") for n in range(4)]
    rates_hz = {f"t{n}": 15.0 for n in range(4)}

    outcome = play(plans, poisson(rates_hz, 20.0))

    assert len(outcome.rejected) < 0.01 * len(outcome.finished)
    assert 0.2 < mean_exit(outcome.finished) < 2.0
    exits = [mean_exit(outcome.of(f"t{n}")) for n in range(4)]
    assert max(exits) - min(exits) < 0.2


def test_a_flood_degrades_itself_and_not_the_others() -> None:
    # Four tenants could have 6.25 requests a second each, to the last exit: this is ten times that.
    plans = [a_policy(f"t{n}", "bounds: {response_time: 200ms}") for n in range(4)]
    quiet_hz = {"t1": 2.0, "t2": 2.0, "t3": 2.0}

    quiet = play(plans, poisson({"t0": 2.0, **quiet_hz}, 60.0))
    flooded = play(plans, poisson({"t0": 62.5, **quiet_hz}, 60.0))

    alone = [task for tenant in quiet_hz for task in quiet.of(tenant)]
    # A flood is known as one after some two seconds.
    beside_flood = [
        task for tenant in quiet_hz for task in flooded.of(tenant) if task.request.received_s > 3.0
    ]
    assert all(flooded.codes(tenant) == Counter() for tenant in quiet_hz)
    assert mean_exit(beside_flood) > 2.8
    assert p99_s(beside_flood) <= 1.1 * p99_s(alone) + 3 * STAGE_S
    assert mean_exit(flooded.of("t0")) < 1.5


def test_a_flood_without_a_bound_starves_nobody() -> None:
    plans = [
        a_policy("loud", "queue: {limit: 1000}"),
        a_policy("quiet", "queue: {limit: 1000}"),
        a_policy("strict", "bounds: {response_time: 100ms}"),
    ]

    outcome = play(plans, poisson({"loud": 200.0, "quiet": 3.0, "strict": 3.0}, 20.0))

    # As beside an idle machine, but for the stage that was running and what is left of a start.
    assert p99_s(outcome.of("quiet")) < 1.5
    assert (
        float(np.median([t.metrics.response_time for t in outcome.of("quiet") if t.metrics])) < 0.1
    )
    assert outcome.codes("strict") == Counter()


def test_urgent_work_of_one_tenant_leaves_the_others_their_share() -> None:
    plans = [
        a_policy("urgent", "bounds: {response_time: 30ms}"),
        a_policy("patient", "queue: {limit: 1000}"),
    ]

    outcome = play(plans, poisson({"urgent": 300.0, "patient": 10.0}, 20.0))

    last_s = max(t.answered_s or 0.0 for t in outcome.of("patient"))
    assert last_s < 25.0


def test_a_higher_priority_keeps_its_depth_beside_a_lower_one() -> None:
    bounds = "bounds: {response_time: 100ms}"
    plans = [a_policy("vip", f"{bounds}\npriority: 5"), a_policy("other", bounds)]

    outcome = play(plans, poisson({"vip": 12.0, "other": 40.0}, 30.0))

    assert mean_exit(outcome.of("vip")) > mean_exit(outcome.of("other")) + 1.0
    assert sum(outcome.codes("vip").values()) <= sum(outcome.codes("other").values())


@pytest.mark.parametrize("pace", [0.5, 2.5])
def test_bounds_hold_on_a_machine_that_is_not_the_profiles(pace: float) -> None:
    plan = a_policy("gate", "bounds: {response_time: 60ms}")

    outcome = play([plan], poisson({"gate": 5.0}, 60.0), pace=pace)

    late = [task for task, code in outcome.rejected if code is Code.EXPIRED]
    assert len(late) <= 0.01 * len(outcome.finished)


def test_once_the_machine_is_fast_again_so_are_the_answers() -> None:
    plan, slow_until_s = a_policy("gate", "bounds: {response_time: 30ms}"), 5.0
    outcome = Outcome()
    simulation = Simulation(
        finished=outcome.finished.append,
        rejected=lambda task, code, _detail: outcome.rejected.append((task, code)),
    )
    simulation.add(
        ENGINE, lambda _stage, _size: STAGE_S * (5 if simulation.now_s < slow_until_s else 1)
    )
    simulation.put_in_force({"gate": plan})

    simulation.run(poisson({"gate": 20.0}, 30.0))

    after = [t for t in outcome.finished if t.request.received_s > slow_until_s + 8.0]
    late = [t for t, _ in outcome.rejected if t.request.received_s > slow_until_s + 8.0]
    # Where requests come in bursts, not all of them can be answered within three stages.
    assert len(late) < 0.1 * len(after)
