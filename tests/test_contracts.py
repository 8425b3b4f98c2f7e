"""The contracts are current, say what the parsers say, and name every topic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from appliance import manifest
from appliance.conditions import DIMENSIONS, SYMBOLS, Op, Scope
from appliance.contracts.files import files
from appliance.contracts.schemas import DOCUMENTS, schema_of
from appliance.contracts.tables import TABLES, with_tables
from appliance.document import parse_document
from appliance.errors import DelenError, InvalidDocument
from appliance.messages import REPLY
from appliance.policy import parse_policy
from appliance.quantities import Dimension, units
from appliance.settings import Settings
from appliance.topics import Topics
from tests.test_telemetry import REJECTION, RESULT

ROOT = Path(__file__).parent.parent
POLICIES = sorted((ROOT / "conditions").rglob("*.yaml"))
MADE = files()
PAGES = sorted((ROOT / "docs").glob("*.md"))


VALIDATORS = {name: Draft202012Validator(schema_of(name)) for name in DOCUMENTS}


def problems(name: str, value: object) -> list[str]:
    """What a document's schema finds in a value, as it would be in JSON."""
    found = VALIDATORS[name].iter_errors(json.loads(json.dumps(value)))
    return [error.message for error in found]


@pytest.mark.parametrize("name", MADE)
def test_the_contract_in_docs_is_current(name: str) -> None:
    kept = (ROOT / "docs" / name).read_text(encoding="utf-8")

    assert kept == MADE[name], "write them anew: make contracts"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert with_tables(text) == text, "make them anew: make contracts"


def test_the_reference_of_policies_has_every_table() -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")

    for name in TABLES:
        assert f"<!-- generated: {name} -->\n| " in text, name


def test_a_place_for_a_table_that_is_not_there_is_named() -> None:
    with pytest.raises(DelenError, match="no table is called 'nothing'"):
        with_tables("<!-- generated: nothing -->\n<!-- end -->")


def test_what_stands_around_a_table_stays() -> None:
    page = "before\n<!-- generated: ops -->\nwhat was\n<!-- end -->\nafter <!-- end -->\n"

    made = with_tables(page)

    assert made.startswith("before\n<!-- generated: ops -->\n| ")
    assert made.endswith(" |\n<!-- end -->\nafter <!-- end -->\n")
    assert "what was" not in made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_one_and_says_what_each_document_is(name: str) -> None:
    schema = schema_of(name)

    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_policy_to_start_from_is_valid_and_names_its_schema(path: Path) -> None:
    text = path.read_text()
    (named,) = [line for line in text.splitlines() if line.startswith("# yaml-language-server")]
    schema = path.parent / named.rpartition("$schema=")[2]

    assert schema.resolve() == ROOT / "docs" / "schemas" / "policy.json"
    assert problems("policy", parse_document(text).value) == []


@pytest.mark.parametrize("path", sorted((ROOT / "engines").glob("*/engine.yaml")))
def test_every_engine_here_has_a_valid_manifest(path: Path) -> None:
    value = parse_document(path.read_bytes()).value

    assert manifest.load(path.parent)
    assert problems("engine", value) == []
    assert problems("engine", {**value, "shape": [1]})


def test_settings_take_units_as_the_appliance_does() -> None:
    good = {"mqtt_host": "broker", "device_budget": "2kJ per 1h", "engine_memory": "2GB"}

    assert Settings(**good)  # type: ignore[arg-type]
    assert problems("settings", good) == []
    assert problems("settings", {"mqtt_hots": "broker"})
    assert problems("settings", {"meter_interval": "100 miles"})


@pytest.mark.parametrize(
    ("name", "reply"),
    [("result", RESULT), ("rejection", replace(REJECTION, reason="too many requests"))],
)
def test_a_reply_is_what_its_schema_says_and_nothing_less(name: str, reply: Any) -> None:
    written = json.loads(REPLY.dump_json(reply))

    assert problems(name, written) == []
    assert all(
        problems(name, {key: written[key] for key in written if key != left}) for left in written
    )


def test_every_topic_has_a_channel() -> None:
    topics = Topics("delen/v1")
    names = {"tenant": "{tenant}", "appliance": "{appliance}", "stream": "{stream}"}
    addresses = {
        topics.request(names["tenant"]),
        topics.request(names["tenant"], names["stream"]),
        topics.result(names["tenant"]),
        topics.result(names["tenant"], names["stream"]),
        topics.policy_set(names["tenant"]),
        topics.policy_state(names["tenant"], names["appliance"]),
        topics.telemetry(names["tenant"], names["appliance"]),
        topics.appliance_status(names["appliance"]),
        topics.appliance_telemetry(names["appliance"]),
        topics.appliance_command(names["appliance"]),
    }

    channels = yaml.safe_load(MADE["asyncapi.yaml"])["channels"].values()

    assert {channel["address"] for channel in channels} - {None} == addresses


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = yaml.safe_load(MADE["asyncapi.yaml"])
    references = list(_references(document))

    assert references
    for reference in references:
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    return []


# Policies as people may write them: mostly right, so that often enough all of one is.

junk: st.SearchStrategy[object] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just([])
)
blank = st.sampled_from(["", " ", "  "])


def mostly(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any] = junk) -> Any:
    """What is right, and once in twenty times something else."""
    return st.integers(0, 19).flatmap(lambda drawn: right if drawn else wrong)


def amounts(dimension: Dimension) -> Any:
    """Quantities as texts and as numbers, in all their spellings."""
    if dimension is Dimension.COUNT:
        digits, values = (
            st.sampled_from(["1", "+2", "3.0", "4e0"]),
            st.integers(1, 9) | st.just(2.0),
        )
    elif dimension is Dimension.RATIO:
        digits, values = st.sampled_from([".5", "0.25", "1.", "5E-1"]), st.floats(0.01, 1)
    else:
        digits = st.sampled_from(["1e3", ".5", "+2.", "1E-2", "17", "0.25"])
        values = st.integers(1, 100) | st.floats(0.001, 1000)
    unit = st.sampled_from(["", *units(dimension)])
    return mostly(values | st.builds("".join, st.tuples(blank, digits, blank, unit, blank)))


def comparisons(scope: Scope) -> Any:
    metric = mostly(st.sampled_from(scope.value), st.sampled_from([*DIMENSIONS, "latency"]))
    symbol = mostly(st.sampled_from(list(SYMBOLS)), st.sampled_from(["=", "!=", "=>"]))
    op = mostly(st.sampled_from([op.value for op in Op]), st.sampled_from(["LESS", "most", None]))

    def about(name: str) -> Any:
        threshold = amounts(DIMENSIONS.get(name, Dimension.NUMBER))
        parts = st.tuples(blank, st.just(name), blank, symbol, blank, threshold.map(str), blank)
        written = mostly(st.just(name), st.just(name.upper()))
        seed_form = {"metric": written, "op": op, "threshold": threshold}
        return st.builds("".join, parts) | st.fixed_dictionaries(seed_form)

    return metric.flatmap(about)


def conditions(scope: Scope) -> Any:
    def nested(inner: Any) -> Any:
        several = st.fixed_dictionaries({"all": inner}) | st.fixed_dictionaries({"any": inner})
        return mostly(
            st.lists(inner, min_size=1, max_size=3).flatmap(
                lambda items: st.sampled_from([{"all": items}, {"any": items}, {"not": items[0]}])
            ),
            several,
        )

    return st.recursive(mostly(comparisons(scope)), nested, max_leaves=4)


exit_when = conditions(Scope.EXIT) | st.lists(conditions(Scope.EXIT), min_size=1, max_size=3)
bounds = st.fixed_dictionaries(
    {},
    optional={
        "response_time": amounts(Dimension.TIME),
        "energy": amounts(Dimension.ENERGY),
        "accuracy": amounts(Dimension.RATIO),
        "agreement": amounts(Dimension.RATIO),
    },
)
mode = st.fixed_dictionaries({}, optional={"bounds": bounds, "exit_when": exit_when})
rule = st.fixed_dictionaries(
    {"use": mostly(st.just("saver")), "when": conditions(Scope.TENANT)},
    optional={"hold": amounts(Dimension.TIME)},
)
steerable = st.sampled_from(
    ["p95_response_time <= 50ms", "queue_length<3", {"all": ["power < 3W", "temperature <= 80C"]}]
)
SECTIONS = {
    "bounds": bounds,
    "exit_when": exit_when,
    "modes": st.fixed_dictionaries({"saver": mode}),
    "adapt": st.lists(rule, max_size=2),
    "budget": st.fixed_dictionaries(
        {"energy": amounts(Dimension.ENERGY), "per": amounts(Dimension.TIME)},
        optional={
            "exhausted": mostly(st.sampled_from(["degrade", "reject"])),
            "pace": mostly(st.booleans()),
        },
    ),
    "goal": st.fixed_dictionaries(
        {
            "maximize": mostly(st.just("accuracy")),
            "subject_to": st.lists(
                steerable | conditions(Scope.TENANT), min_size=1, max_size=2, unique_by=str
            ),
        }
    ),
    "queue": st.fixed_dictionaries(
        {},
        optional={
            "limit": mostly(st.integers(1, 100_000)),
            "full": mostly(st.sampled_from(["drop-oldest", "reject"])),
        },
    ),
    "priority": mostly(st.integers(-100, 100)),
    "weight": mostly(st.floats(0.01, 1000) | st.integers(1, 9)),
}


@st.composite
def policies(draw: st.DrawFn) -> dict[str, object]:
    sections = draw(st.sets(st.sampled_from(sorted(SECTIONS)), max_size=3))
    return {
        "tenant": draw(mostly(st.text(min_size=1, max_size=5))),
        "version": draw(mostly(st.integers(1, 9))),
        "engine": "digits",
        **({"modes": {"saver": {}}} if "adapt" in sections else {}),
        **{section: draw(SECTIONS[section]) for section in sorted(sections)},
    }


GATE = {"tenant": "gate", "version": 1, "engine": "digits"}


@given(policies())
@example(GATE | {"exit_when": {"metric": "CONFIDENCE", "op": None}})
@example(GATE | {"exit_when": " margin>.5 "})
@example(GATE | {"bounds": {"energy": "\t150 mJ\n"}})
def test_what_the_parser_accepts_the_schema_does_not_refuse(policy: dict[str, object]) -> None:
    text = json.dumps(policy)

    try:
        parse_policy(text)
    except InvalidDocument:
        return
    found = [
        error.message for error in VALIDATORS["policy"].iter_errors(parse_document(text).value)
    ]

    assert found == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": "appliances"},
        {"tenant": "a/b"},
        {"tenant": None},
        {"version": "3"},
        {"version": 0},
        {"colour": "red"},
        {"bounds": {"latency": "40ms"}},
        {"bounds": {"response_time": "40mJ"}},
        {"bounds": {"response_time": 0}},
        {"bounds": {"accuracy": 1.5}},
        {"bounds": []},
        {"bounds": {"response_time": "-1s"}},
        {"bounds": {"response_time": "0.0 ms"}},
        {"bounds": {"energy": "-.5mJ"}},
        {"bounds": {"accuracy": "101%"}},
        {"bounds": {"accuracy": "1.5"}},
        {"limits": {"rate": "0/s"}},
        {"limits": {"bytes": "-5MB/s"}},
        {"budget": {"energy": "5J", "per": "-1h"}},
        {"adapt": [{"use": "saver", "when": "queue_length > 3.5"}], "modes": {"saver": {}}},
        {"exit_when": "confidence >= 130%"},
        {"exit_when": "confidence => 0.9"},
        {"exit_when": "certainty >= 0.9"},
        {"exit_when": "queue_length > 3"},
        {"exit_when": "confidence >= 0.9 and exit >= 1"},
        {"exit_when": []},
        {"exit_when": {"all": []}},
        {"exit_when": {"all": ["exit >= 0"], "any": ["exit >= 0"]}},
        {"exit_when": {"metric": "confidence", "op": "greater"}},
        {"exit_when": {"metric": "confidence", "op": "most", "threshold": 0.5}},
        {"exit_when": {"metric": "exit", "op": "less", "threshold": 2, "note": "?"}},
        {"modes": {"saver": {"engine": "digits"}}},
        {"adapt": [{"when": "power > 5W"}]},
        {"budget": {"energy": "5J"}},
        {"budget": {"energy": "5J", "per": "1h", "exhausted": "stop"}},
        {"budget": {"energy": "5J", "per": "1h", "pace": "yes"}},
        {"queue": {"limit": 0}},
        {"queue": {"limit": 3.5}},
        {"goal": {"maximize": "accuracy", "subject_to": []}},
        {"goal": {"maximize": "accuracy", "subject_to": ["arrival_rate < 3"]}},
        {"goal": {"maximize": "accuracy", "subject_to": [{"any": ["power < 3W"]}]}},
        {"priority": 101},
        {"weight": 0},
    ],
    ids=str,
)
def test_both_refuse_what_is_wrong_by_its_shape(wrong: dict[str, object]) -> None:
    policy = {**GATE, **wrong}

    with pytest.raises(InvalidDocument):
        parse_policy(json.dumps(policy))

    assert problems("policy", policy)


QUANTITIES = {
    "response_time": ("bounds", Dimension.TIME),
    "energy": ("bounds", Dimension.ENERGY),
    "accuracy": ("bounds", Dimension.RATIO),
    "rate": ("limits", Dimension.RATE),
    "bytes": ("limits", Dimension.BYTE_RATE),
}
every_unit = sorted({unit for dimension in Dimension for unit in units(dimension)})
spelt = st.builds(
    "".join,
    st.tuples(
        blank,
        st.sampled_from(["", "+", "-", "--", "~"]),
        st.from_regex(r"[0-9]{0,3}\.?[0-9]{0,3}", fullmatch=True)
        | st.sampled_from(["0", "1.0", "100", "100.5", ".", "0x1", "1,5", "nan", "inf", "٣"]),
        blank,
        st.sampled_from(["", *every_unit, "S", "miles", "%%"]),
        blank,
    ),
)


@pytest.mark.parametrize("field", QUANTITIES)
@given(data=st.data())
def test_a_quantity_is_refused_by_both_or_by_neither(field: str, data: st.DataObject) -> None:
    section, dimension = QUANTITIES[field]
    text = data.draw(spelt | amounts(dimension).filter(lambda value: isinstance(value, str)))
    policy = {**GATE, section: {field: text}}

    try:
        parse_policy(json.dumps(policy))
        is_refused = False
    except InvalidDocument:
        is_refused = True

    assert bool(problems("policy", policy)) == is_refused, text


@pytest.mark.parametrize(
    ("field", "value"),
    [("device_budget", "-2kJ per 1h"), ("device_budget", "2kJ per 0s"), ("engine_memory", "-1GB"),
     ("session_expiry", "-1h"), ("log_max_size", "0MB"), ("rejection_rate", "-1/s")],
)  # fmt: skip
def test_settings_below_zero_are_refused_by_both(field: str, value: str) -> None:
    with pytest.raises(ValidationError):
        Settings(**{field: value})  # type: ignore[arg-type]

    assert problems("settings", {field: value})


@pytest.mark.parametrize("left_out", GATE)
def test_both_miss_what_has_to_be_there(left_out: str) -> None:
    policy = {name: value for name, value in GATE.items() if name != left_out}

    with pytest.raises(InvalidDocument):
        parse_policy(json.dumps(policy))

    assert problems("policy", policy)
