"""The parser of policies, YAML and JSON, with its conditions and quantities."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.conditions import Condition, Scope, compile_condition, explain
from appliance.errors import InvalidDocument, Problem
from appliance.policy import Policy, parse_policy
from tests.fuzz import flat, trees
from tests.fuzz.target import Target

_LONGEST_MESSAGE = 404


def check(data: bytes) -> None:
    """The policy: valid and with conditions that compile, or problems that have a place."""
    try:
        policy = parse_policy(data)
    except InvalidDocument as error:
        _check_problems(error.problems)
        return
    assert policy.tenant
    for condition, scope in _conditions(policy):
        assert explain(condition)
        compile_condition(condition, scope)


def _check_problems(problems: Sequence[Problem]) -> None:
    assert problems
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert len(problem.message) <= _LONGEST_MESSAGE
        problem.message.encode()


def _conditions(policy: Policy) -> list[tuple[Condition, Scope]]:
    several = (policy.exit_when, *(mode.exit_when for mode in policy.modes.values()))
    at_exits = [
        condition
        for one in several
        if one is not None
        for condition in (one if isinstance(one, tuple) else (one,))
    ]
    goal = policy.goal.subject_to if policy.goal else []
    return [
        *((condition, Scope.EXIT) for condition in at_exits),
        *((rule.when, Scope.TENANT) for rule in policy.adapt),
        *((condition, Scope.TENANT) for condition in goal),
    ]


POLICIES = Target(
    name="policies",
    check=check,
    mutations=(trees.mutate, trees.mutate, trees.mutate, trees.mutate, trees.sprinkle, *flat.FLAT),
)
