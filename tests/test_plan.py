"""The plan: after each exit, stop or go on."""

from __future__ import annotations

import pytest

from appliance.engine import Engine
from appliance.errors import Faulty
from appliance.feasibility import conflicts, exits_of
from appliance.plan import Plan, StoppedBy
from tests.factories import a_plan, an_engine, metrics_at

TIMES_S = (0.010,) * 4


def run(plan: Plan, **known: object) -> tuple[int, StoppedBy]:
    """The exit where a task stops whose stages take 10 ms each, and why."""
    for exit_ in range(4):
        metrics = metrics_at(exit_, engine=plan.engine, **known)
        decision = plan.decide(
            metrics,
            stage_times_s=TIMES_S,
            stage_energies_j=[stage.energy_j for stage in plan.engine.stages],
            response_time_bound_s=plan.policy.bounds.response_time,
        )
        if isinstance(decision, StoppedBy):
            return exit_, decision
    raise AssertionError("the last exit always answers")


@pytest.mark.parametrize(
    ("policy", "exit_", "stopped_by"),
    [
        ("", 2, StoppedBy.BEST_EXIT),
        ("exit_when: exit >= 0", 0, StoppedBy.CONDITION),
        ("exit_when: confidence >= 0.6", 0, StoppedBy.CONDITION),
        ("exit_when: confidence >= 0.9", 3, StoppedBy.LAST_EXIT),
        ("exit_when: response_time > 20ms", 2, StoppedBy.CONDITION),
        ("exit_when: accuracy >= 68%", 1, StoppedBy.CONDITION),
        ("bounds: {response_time: 25ms}", 1, StoppedBy.RESPONSE_TIME),
        ("bounds: {response_time: 5ms}", 0, StoppedBy.RESPONSE_TIME),
        ("bounds: {energy: 100mJ}", 1, StoppedBy.ENERGY),
        ("bounds: {energy: 10mJ}", 0, StoppedBy.ENERGY),
        ("bounds: {accuracy: 0.6}\nexit_when: exit >= 0", 1, StoppedBy.CONDITION),
        ("bounds: {accuracy: 0.99}\nexit_when: exit >= 0", 2, StoppedBy.CONDITION),
        ("bounds: {accuracy: 0.766}\nexit_when: confidence > 0.9", 2, StoppedBy.ACCURACY),
        (
            "bounds: {accuracy: 0.7, response_time: 25ms}\nexit_when: exit >= 0",
            1,
            StoppedBy.RESPONSE_TIME,
        ),
        ("bounds: {accuracy: 0.7, energy: 60mJ}\nexit_when: exit >= 0", 0, StoppedBy.ENERGY),
    ],
)
def test_a_task_on_delens_resnet50_stops_where_its_policy_says(
    policy: str, exit_: int, stopped_by: StoppedBy
) -> None:
    assert run(a_plan(policy)) == (exit_, stopped_by)


def test_each_exit_can_have_its_own_condition() -> None:
    plan = a_plan("exit_when: [exit > 5, {metric: exit, op: null}, exit >= 0, exit >= 0]")

    assert run(plan) == (2, StoppedBy.CONDITION)


def test_for_accuracys_sake_a_dominated_exit_is_passed_by_or_not_begun() -> None:
    engine = an_engine(accuracies=(0.5, 0.7, 0.7, 0.9))

    with_room = a_plan("bounds: {accuracy: 0.8}\nexit_when: exit >= 0", engine=engine)
    with_room_for_one = a_plan(
        "bounds: {accuracy: 0.8, response_time: 30ms}\nexit_when: exit >= 0", engine=engine
    )

    assert run(with_room) == (3, StoppedBy.LAST_EXIT)
    assert run(with_room_for_one) == (1, StoppedBy.RESPONSE_TIME)


def test_a_condition_on_what_is_not_profiled_stops_with_an_error() -> None:
    engine = an_engine(energies_j=(None,) * 4)

    assert run(a_plan("exit_when: {not: energy < 1J}", engine=engine)) == (0, StoppedBy.ERROR)


@pytest.mark.parametrize(
    ("policy", "exit_", "unmet"),
    [
        ("bounds: {response_time: 40ms, energy: 1J, accuracy: 0.4}", 0, ()),
        ("bounds: {response_time: 5ms}", 0, ("response_time",)),
        ("bounds: {energy: 10mJ, accuracy: 0.9}", 0, ("energy", "accuracy")),
    ],
)
def test_the_bounds_that_an_answer_breaks_are_listed(
    policy: str, exit_: int, unmet: tuple[str, ...]
) -> None:
    assert a_plan(policy).unmet(metrics_at(exit_)) == unmet


@pytest.mark.parametrize(
    ("policy", "engine", "path"),
    [
        ("exit_when: [exit > 1, exit > 1]", an_engine(), ("exit_when",)),
        ("bounds: {energy: 1J}", an_engine(energies_j=(None,) * 4), ("bounds", "energy")),
        ("bounds: {accuracy: 0.5}", an_engine(accuracies=(None,) * 4), ("bounds", "accuracy")),
    ],
)
def test_a_policy_that_does_not_fit_the_engine_is_faulty(
    policy: str, engine: Engine, path: tuple[str, ...]
) -> None:
    with pytest.raises(Faulty) as faulty:
        a_plan(policy, engine=engine)

    assert faulty.value.faults[0].path == path


def test_feasibility_tells_each_exits_cost_and_what_it_breaks() -> None:
    plan = a_plan("bounds: {response_time: 25ms, accuracy: 0.7}")

    exits = exits_of(plan, TIMES_S)

    assert [exit_.response_time_s for exit_ in exits] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert [exit_.reachable for exit_ in exits] == [True, True, False, False]
    assert [exit_.dominated for exit_ in exits] == [False, False, False, True]
    assert [exit_.broken for exit_ in exits] == [
        ("accuracy",),
        ("accuracy",),
        ("response_time",),
        ("response_time",),
    ]
    assert conflicts(plan, exits) == [
        "no exit keeps bounds.response_time and bounds.accuracy together: accuracy gives way"
    ]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("bounds: {response_time: 1s}", []),
        ("bounds: {accuracy: 0.9}", ["no exit keeps bounds.accuracy"]),
        ("bounds: {response_time: 1ms}", ["no exit keeps bounds.response_time"]),
        (
            "goal: {maximize: accuracy, subject_to: [p95_response_time <= 5ms]}",
            ["no exit keeps the goal's p95_response_time <= 5 ms: the first one alone takes 10 ms"],
        ),
        (
            "goal: {maximize: accuracy, subject_to: [{all: [energy_per_hour < 10mJ, power < 5W]}]}",
            [
                (
                    "no exit keeps the goal's energy_per_hour < 10 mJ: the first one alone takes"
                    " 45.99 mJ"
                )
            ],
        ),
        ("goal: {maximize: accuracy, subject_to: [p95_response_time <= 11ms]}", []),
        ("goal: {maximize: accuracy, subject_to: [p95_response_time >= 1us]}", []),
        (
            "bounds: {agreement: 99%, response_time: 25ms, energy: 100mJ}",
            [
                (
                    "the last exit does not keep bounds.response_time and bounds.energy:"
                    " bounds.agreement gives way until it is known"
                )
            ],
        ),
        ("bounds: {agreement: 99%, response_time: 1s}", []),
    ],
)
def test_conflicts_are_sentences(policy: str, said: list[str]) -> None:
    plan = a_plan(policy)

    assert conflicts(plan, exits_of(plan, TIMES_S)) == said


def test_a_time_that_is_not_known_breaks_nothing() -> None:
    exits = exits_of(a_plan("bounds: {response_time: 1ms}"), (None,) * 4)

    assert [exit_.response_time_s for exit_ in exits] == [None] * 4
    assert [exit_.broken for exit_ in exits] == [()] * 4
