"""The topic tree: a function per topic and its inverse, and nobody speaks in another's name."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from appliance.errors import Code, Rejected
from appliance.topics import (
    MAX_REPLY_LEVELS,
    RESERVED_NAMES,
    Address,
    Topics,
    Verb,
    level_fault,
    tenant_fault,
)

TOPICS = Topics("delen/v1")

# Drawn from what is allowed: of texts at large too many would have to be thrown away.
visible = st.characters(exclude_categories=["C"], exclude_characters="/+#")
levels = st.text(visible, min_size=1, max_size=20).filter(lambda name: tenant_fault(name) is None)
evil = st.text(alphabet="ab/+#$\x00\u202e é", max_size=20)


@given(levels, st.none() | levels)
def test_a_request_topic_says_whose_it_is(tenant: str, stream: str | None) -> None:
    topic = TOPICS.request(tenant, stream)

    assert TOPICS.parse(topic) == Address(Verb.REQUEST, tenant, stream)


@given(levels)
def test_a_policy_topic_and_a_command_topic_say_whose_they_are(name: str) -> None:
    assert TOPICS.parse(TOPICS.policy_set(name)) == Address(Verb.POLICY_SET, name)
    assert TOPICS.parse(TOPICS.appliance_command(name)) == Address(Verb.COMMAND, name)


@given(evil)
def test_no_other_topic_is_anybodys(text: str) -> None:
    address = TOPICS.parse(text)

    assert address is None or tenant_fault(address.tenant) is None


@pytest.mark.parametrize(
    "topic",
    [
        *(f"delen/v1/{name}/request" for name in RESERVED_NAMES),
        *(f"delen/v1/{name}/policy/set" for name in RESERVED_NAMES),
        "delen/v1/gate/result",
        "delen/v1/gate/request/a/b",
        "delen/v1//request",
        "delen/v1/gate/request/",
        "delen/v1/ga\u0000te/request",
        "delen/v2/gate/request",
        "delen/v1",
        "",
    ],
)
def test_a_topic_that_is_no_request_has_no_address(topic: str) -> None:
    assert TOPICS.parse(topic) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        ("a/b", "`/`"),
        ("a+", "`+`"),
        ("#", "`#`"),
        ("$share", "`$`"),
        ("a\nb", "U+000A"),
        ("a\u200bb", "U+200B"),
        ("a\u202eb", "U+202E"),
        ("a\u2028b", "U+2028"),
        ("a\u00a0b", "U+00A0"),
        ("a\x7f", "U+007F"),
        ("\ud800", "U+D800"),
        (" gate", "blank"),
        ("gate ", "blank"),
        ("Tu\u0308r", "NFC"),
        ("é" * 65, "longer than 128 bytes"),
    ],
)
def test_what_cannot_be_a_level_says_why(name: str, said: str) -> None:
    assert said in (level_fault(name) or "")


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_a_reserved_name_is_no_tenants_but_may_be_a_streams(name: str) -> None:
    assert "reserved" in (tenant_fault(name) or "")
    assert level_fault(name) is None


def test_names_of_people_and_places_are_levels() -> None:
    assert [level_fault(name) for name in ("gate-1", "Tür", "北門", "a b", "x.y_z")] == [None] * 5


@given(levels, st.none() | levels)
def test_without_a_response_topic_the_reply_goes_to_the_stream(
    tenant: str, stream: str | None
) -> None:
    assert TOPICS.reply(tenant, stream, None) == TOPICS.result(tenant, stream)


@given(levels, st.lists(levels, max_size=MAX_REPLY_LEVELS))
def test_a_response_topic_below_the_own_results_is_honoured(tenant: str, below: list[str]) -> None:
    response_topic = "/".join([TOPICS.result(tenant), *below])

    assert TOPICS.reply(tenant, None, response_topic) == response_topic


@given(levels, levels, evil)
def test_a_response_topic_of_another_tenant_is_refused(own: str, other: str, rest: str) -> None:
    assume(own != other)

    for foreign in (f"{TOPICS.result(other)}{rest}", f"{TOPICS.result(other)}/{own}"):
        with pytest.raises(Rejected) as rejected:
            TOPICS.reply(own, None, foreign)
        assert rejected.value.code is Code.FOREIGN_RESPONSE_TOPIC


@given(levels, st.integers(min_value=MAX_REPLY_LEVELS + 1, max_value=300))
def test_a_response_topic_too_deep_for_brokers_is_refused(tenant: str, depth: int) -> None:
    with pytest.raises(Rejected):
        TOPICS.reply(tenant, None, "/".join([TOPICS.result(tenant), *["a"] * depth]))


@given(evil)
def test_a_response_topic_with_anything_special_in_it_is_refused(rest: str) -> None:
    assume(any(map(level_fault, rest.split("/"))))

    with pytest.raises(Rejected):
        TOPICS.reply("gate", None, f"delen/v1/gate/result/{rest}")


def test_a_neighbours_name_that_starts_alike_is_another_tenant() -> None:
    with pytest.raises(Rejected):
        TOPICS.reply("gate", None, "delen/v1/gate/results")
