"""The policy document: what is right is read, what is wrong is all said at its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from appliance.errors import InvalidDocument, Problem
from appliance.policy import Policy, parse_policy

FULL = """\
tenant: gate-camera
version: 3
engine: resnet50
bounds: {response_time: 40ms, energy: 150mJ, accuracy: 0.70, agreement: 99%}
exit_when: confidence >= 0.9
modes:
  saver: {bounds: {response_time: 100ms}, exit_when: exit >= 0}
adapt:
  - {use: saver, when: {any: ["budget_remaining < 10%", "temperature > 85C"]}, hold: 30s}
budget: {energy: 500J, per: 1h, exhausted: degrade}     # degrade: first exit only; reject
queue: {limit: 32, full: drop-oldest}                    # or reject
priority: 0
goal: {maximize: accuracy, subject_to: ["p95_response_time <= 50ms", "energy_per_hour <= 500J"]}
"""


def problems_of(text: str | bytes, *, tenant: str | None = None) -> tuple[Problem, ...]:
    with pytest.raises(InvalidDocument) as invalid:
        parse_policy(text, tenant=tenant)
    return invalid.value.problems


def test_the_full_document_is_read_in_si() -> None:
    policy = parse_policy(FULL)

    assert policy.bounds.response_time == 0.040
    assert policy.bounds.energy == 0.150
    assert policy.bounds.accuracy == 0.70
    assert policy.budget is not None
    assert (policy.budget.energy, policy.budget.per) == (500.0, 3600.0)
    assert policy.adapt[0].hold == 30.0


def test_json_is_read_alike_and_may_hold_tabs() -> None:
    document = yaml.safe_load(FULL)

    assert parse_policy(json.dumps(document, indent="\t")) == parse_policy(FULL)


def test_a_list_has_one_condition_per_exit() -> None:
    policy = parse_policy(
        "tenant: a\nversion: 1\nengine: b\n"
        'exit_when: ["confidence > 0.9", {metric: exit, op: null, threshold: 0}]'
    )

    assert isinstance(policy.exit_when, tuple)
    assert len(policy.exit_when) == 2


def test_every_mistake_is_said_at_once_at_its_line_and_column() -> None:
    text = """\
tenant: gate/camera
version: "3"
engin: resnet50
bounds:
  response_time: 40mx
  acuracy: 0.7
exit_when:
  all:
    - confidence >= 90
adapt:
  - {use: saver, when: queue_length > 3}
queue: {limit: 0, full: maybe}
limits: {rate: 20/m, bytes: -1, burst: 2h, birst: 1}
"""

    problems = problems_of(text)

    assert [(p.path, p.line, p.column) for p in problems] == [
        ("tenant", 1, 1),
        ("engine", 1, 1),
        ("version", 2, 1),
        ("engin", 3, 1),
        ("bounds.response_time", 5, 3),
        ("bounds.acuracy", 6, 3),
        ("exit_when.all[0]", 9, 7),
        ("adapt[0].use", 11, 6),
        ("queue.limit", 12, 9),
        ("queue.full", 12, 19),
        ("limits.rate", 13, 10),
        ("limits.bytes", 13, 22),
        ("limits.burst", 13, 33),
        ("limits.birst", 13, 44),
    ]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("[1, 2]", 1, "a policy is a mapping"),
        ("tenant: a\nversion: [1", 2, "expected"),
        ("tenant: a\ntenant: b", 2, "stands here twice"),
        ("a: &x 1\nb: *x", 1, "anchors"),
        ("a: " + "[" * 40, 1, "nested more than"),
        (b"\xff\xfe", 1, "not UTF-8"),
        ("a: \x07", 1, "U+0007"),
        ("x" * 300_000, 1, "longer than"),
        ("x" * 70_000, 1, "longer than"),
        ("a: !!python/object:os.system x", 1, "tags (!)"),
        ("a: 1\nb: =", 2, "cannot be read"),
        ('{"a": "\\ud83d"}', 1, "half of an escaped character"),
        ('{"\\ud83d": 1}', 1, "half of an escaped character"),
    ],
)
def test_what_is_no_document_is_refused_with_a_sentence(
    text: str | bytes, line: int, said: str
) -> None:
    (problem,) = problems_of(text)

    assert problem.line == line
    assert said in problem.message


def test_json_may_escape_a_character_in_two_halves() -> None:
    policy = parse_policy(json.dumps({"tenant": "gate-\U0001f6aa", "version": 1, "engine": "b"}))

    assert policy.tenant == "gate-\U0001f6aa"


def test_what_should_be_a_mapping_is_told_in_the_words_of_yaml() -> None:
    problems = problems_of("tenant: a\nversion: 1\nengine: b\nbounds: 3\nmodes: [night]\n")

    assert [problem.message for problem in problems] == [
        "bounds: this should be a mapping, of names to values",
        "modes: this should be a mapping, of names to values",
    ]


@pytest.mark.parametrize("use", [["saver"], {"saver": 1}, None, 1])
def test_a_rule_must_name_its_mode(use: object) -> None:
    rules = [{"use": use, "when": "power > 5W"}]
    fields = {"tenant": "a", "version": 1, "engine": "b", "modes": {"saver": {}}, "adapt": rules}

    assert [problem.path for problem in problems_of(json.dumps(fields))] == ["adapt[0].use"]


@pytest.mark.parametrize(
    "field",
    [
        "exit_when: 'confidence > 0" + " " * 60_000 + "x'",
        "exit_when: 'confidence > " + "1" * 60_000 + " x y'",
        "exit_when: {metric: energy, op: less, threshold: '" + "1" * 60_000 + " x y'}",
        "bounds: {energy: '" + "1" * 60_000 + " x y'}",
        "engine: '" + "x" * 60_000 + "'",
        "priority: '" + "x" * 60_000 + "'",
    ],
)
def test_a_text_without_end_is_refused_at_once_and_with_a_short_sentence(field: str) -> None:
    lines = {"tenant": "tenant: a", "version": "version: 1", "engine": "engine: b"}
    lines[field.partition(":")[0]] = field

    (problem,) = problems_of("\n".join(lines.values()))

    assert len(problem.message) < 500


def test_a_policy_pushed_to_another_tenants_topic_is_refused() -> None:
    (problem,) = problems_of("tenant: a\nversion: 1\nengine: b", tenant="c")

    assert (problem.path, problem.line) == ("tenant", 1)


def test_the_topic_names_the_tenant_where_the_document_does_not() -> None:
    assert parse_policy("version: 1\nengine: b", tenant="c").tenant == "c"


@pytest.mark.parametrize(
    "name", ["appliances", "a/b", "a+", "#", "", "$SYS", "a\u202eb", "x" * 129]
)
def test_a_tenants_name_must_be_one_level_of_a_topic(name: str) -> None:
    (problem,) = problems_of(json.dumps({"tenant": name, "version": 1, "engine": "b"}))

    assert problem.path == "tenant"


@pytest.mark.parametrize(
    "field",
    [
        "bounds: {response_time: 0}",
        "bounds: {response_time: -5ms}",
        "bounds: {response_time: .inf}",
        "bounds: {accuracy: 70}",
        "bounds: {energy: true}",
        "version: 0",
        "version: 1.5",
        "version: true",
        "priority: 1000",
        "budget: {energy: 5J}",
        "goal: {maximize: speed, subject_to: [queue_length < 3]}",
        "exit_when: []",
    ],
)
def test_values_out_of_range_are_refused(field: str) -> None:
    lines = {"tenant": "tenant: a", "version": "version: 1", "engine": "engine: b"}
    lines[field.partition(":")[0]] = field

    assert problems_of("\n".join(lines.values()))


@pytest.mark.parametrize(
    ("constraint", "path", "said"),
    [
        ("queue_length == 3", "", "equality"),
        ("{metric: queue_length, op: null}", "", "equality"),
        ("{any: [queue_length < 3, power < 5W]}", "", "`any`"),
        ("{not: queue_length < 3}", "", "`not`"),
        ("arrival_rate < 5/s", "", "does not depend on how deep requests go"),
        ("{all: [power < 5W, {not: queue_length < 3}]}", ".all[1]", "`not`"),
        ("{all: [power < 5X]}", ".all[0]", "unknown unit"),
        ("confidence > 0.5", "", "not known of a tenant"),
    ],
)
def test_a_goal_is_not_steered_by_what_has_no_direction(
    constraint: str, path: str, said: str
) -> None:
    (problem,) = problems_of(
        "tenant: a\nversion: 1\nengine: b\ngoal:\n  maximize: accuracy\n  subject_to:\n"
        f"    - temperature < 80C\n    - {constraint}"
    )

    assert (problem.path, problem.line) == (f"goal.subject_to[1]{path}", 8)
    assert said in problem.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("power <= 5W", "power >= 6W"),
        ("power >= 6W", "power <= 5W"),
        ("power < 5W", "power >= 5W"),
        ("{all: [queue_length < 9, power > 5W]}", "power <= 5W"),
    ],
)
def test_constraints_that_exclude_each_other_are_refused(one: str, other: str) -> None:
    (problem,) = problems_of(
        "tenant: a\nversion: 1\nengine: b\ngoal:\n  maximize: accuracy\n  subject_to:\n"
        f"    - {one}\n    - {other}"
    )

    assert (problem.path, problem.line) == ("goal.subject_to[1]", 8)
    assert "exclude each other" in problem.message


def test_constraints_on_a_range_are_none_that_exclude_each_other() -> None:
    policy = parse_policy(
        "tenant: a\nversion: 1\nengine: b\n"
        "goal: {maximize: accuracy, subject_to: [{all: [power >= 5W, power <= 5W]}]}"
    )

    assert policy.goal is not None
    assert [c.metric for c in policy.goal.constraints] == ["power", "power"]


def test_a_condition_that_names_two_modes_is_refused_at_the_second() -> None:
    (problem,) = problems_of(
        "tenant: a\nversion: 1\nengine: b\nmodes: {one: {}, two: {}}\nadapt:\n"
        "  - {use: one, when: power > 5W}\n"
        "  - {use: two, when: queue_length > 3}\n"
        "  - {use: two, when: power > 5000mW}"
    )

    assert (problem.path, problem.line) == ("adapt[2].when", 8)
    assert "adapt[0] uses `one` under the same condition" in problem.message


def test_an_agreement_of_nothing_is_refused() -> None:
    (problem,) = problems_of("tenant: a\nversion: 1\nengine: b\nbounds: {agreement: 0}")

    assert problem.path == "bounds.agreement"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({"use": inner, "when": inner})
        | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*Policy.model_fields, "x"]), json_values, max_size=6))
def test_any_values_in_the_fields_give_a_policy_or_problems_with_places(
    fields: dict[str, Any],
) -> None:
    is_policy_or_invalid(json.dumps({"tenant": "a", "version": 1, "engine": "b"} | fields))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_document_gives_a_policy_or_problems_with_places(data: st.DataObject) -> None:
    text = list(FULL)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from([*":{}[],&*!|>'\"#%@`\n\t -?0a\x00é\ud800"]))

    is_policy_or_invalid("".join(text))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_gives_a_policy_or_problems_with_places(text: str | bytes) -> None:
    is_policy_or_invalid(text)


def is_policy_or_invalid(text: str | bytes) -> None:
    try:
        parse_policy(text)
    except InvalidDocument as invalid:
        assert invalid.problems  # noqa: PT017 - either outcome is right, nothing else is
        assert TypeAdapter(tuple[Problem, ...]).dump_json(invalid.problems)  # noqa: PT017
        lines = len(text) + 1
        assert all(1 <= problem.line <= lines for problem in invalid.problems)  # noqa: PT017
        assert all(problem.column >= 1 for problem in invalid.problems)  # noqa: PT017


def test_a_policy_of_very_many_parts_is_refused_where_it_has_too_many() -> None:
    text = f"tenant: a\nversion: 1\nengine: e\nexit_when: [{'a,' * 30_000}]"

    with pytest.raises(InvalidDocument) as error:
        parse_policy(text)

    assert "more than 2000 parts" in error.value.problems[0].message
    assert error.value.problems[0].line == 4
