"""The checker itself: it says nothing of a clean history, and catches each violation in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.energy import IDLE
from appliance.ledger import LedgerRow
from appliance.messages import Rejection, Result
from tests.faults.checker import violations
from tests.faults.history import Forgotten, Heard, History, Joules, Push, Row, Sent, Told
from tests.stores import REJECTION, RESULT

TENANTS = ("gate", "meter", "lab")


def a_request(tenant: str, number: int, *, marked: bool = True) -> Sent:
    return Sent(
        tenant=tenant,
        stream=f"s{number % 2}",
        correlation=f"{tenant}:{number}".encode() if marked else None,
        reply_topic=f"d/{tenant}/result",
        published_s=float(number),
        acknowledged_s=number + 0.5,
    )


def an_answer(sent: Sent, number: int) -> Result:
    return replace(RESULT, id=f"{sent.tenant}-{number}", tenant=sent.tenant, stream=sent.stream)


def heard_as(sent: Sent, reply: Result | Rejection) -> Heard:
    return Heard(
        topic=sent.reply_topic,
        tenant=sent.tenant,
        correlation=sent.correlation,
        reply=reply,
        at_s=sent.published_s + 1,
    )


def a_clean_history(counts: dict[str, int], *, marked: bool = True) -> History:
    """So many requests of each tenant, all of them acknowledged, answered and logged."""
    sent = [a_request(t, n, marked=marked) for t, count in counts.items() for n in range(count)]
    answers = [an_answer(one, number) for number, one in enumerate(sent)]
    ledger = [
        LedgerRow(
            account=tenant,
            start_s=0,
            reported_j=sum(a.energy_mj or 0.0 for a in answers if a.tenant == tenant) * 1e-3,
            measured_j=1.0,
            modelled_j=0.0,
        )
        for tenant in counts
    ]
    idle = LedgerRow(account=IDLE, start_s=0, reported_j=0.0, measured_j=2.0, modelled_j=0.0)
    measured_j = len(counts) + 2.0
    return History(
        sent=sent,
        heard=[heard_as(one, answer) for one, answer in zip(sent, answers, strict=True)],
        rows=[
            Row(reply=a, correlation=one.correlation) for one, a in zip(sent, answers, strict=True)
        ],
        pushes=[
            Push(tenant=tenant, version=version, valid=version < 3, acknowledged_s=float(version))
            for tenant in counts
            for version in (1, 2, 3)
        ],
        told=[Told(tenant=tenant, version=version) for tenant in counts for version in (1, 2)],
        in_force=dict.fromkeys(counts, 2),
        joules=[
            Joules(
                tenants_j=float(len(counts)),
                idle_j=2.0,
                unattributed_j=0.0,
                integrated_j=measured_j,
            )
        ],
        ledger=[*ledger, idle],
        ended=True,
    )


MARKED = a_clean_history({"gate": 3, "meter": 2})
UNMARKED = a_clean_history({"gate": 3, "meter": 2}, marked=False)


@given(
    st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 20), min_size=1),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_clean_history_has_no_violation_in_whatever_order(
    counts: dict[str, int],
    marked: bool,  # noqa: FBT001
    chance: Random,
) -> None:
    clean = a_clean_history(counts, marked=marked)
    rows, heard = list(clean.rows), list(clean.heard)
    chance.shuffle(rows)
    chance.shuffle(heard)

    assert violations(replace(clean, rows=rows, heard=heard)) == []


def drop_a_row(history: History) -> History:
    """The ledger is made to agree, so that the row alone is what is missing."""
    return with_rows(history, history.rows[1:])


def duplicate_a_row(history: History) -> History:
    twice = replace(history.rows[0].reply, id="twice")
    return with_rows(history, [*history.rows, replace(history.rows[0], reply=twice)])


def with_rows(history: History, rows: Sequence[Row]) -> History:
    changed = replace(history, rows=rows)
    ledger = [
        replace(
            entry,
            reported_j=sum(
                (row.reply.energy_mj or 0.0) * 1e-3
                for row in changed.rows
                if isinstance(row.reply, Result) and row.reply.tenant == entry.account
            ),
        )
        for entry in history.ledger
    ]
    return replace(changed, ledger=ledger)


def drop_a_message(history: History) -> History:
    return replace(history, heard=history.heard[1:])


def swap_tenants(history: History) -> History:
    first, *rest = history.heard
    return replace(history, heard=[replace(first, tenant="meter", topic="d/meter/result"), *rest])


def answer_with_foreign_correlation(history: History) -> History:
    first, *rest = history.heard
    return replace(history, heard=[replace(first, correlation=b"meter:0"), first, *rest])


def answer_with_unknown_correlation(history: History) -> History:
    first, *rest = history.heard
    return replace(history, heard=[replace(first, correlation=b"nobody's"), first, *rest])


def answer_elsewhere(history: History) -> History:
    first, *rest = history.heard
    return replace(history, heard=[replace(first, topic="d/gate/result/other"), *rest])


def reject_a_request(history: History) -> History:
    first, id_ = history.sent[0], history.rows[0].reply.id
    rejection = replace(REJECTION, id=id_, tenant=first.tenant, stream=first.stream)
    row = Row(reply=rejection, correlation=first.correlation)
    told = replace(history, heard=[heard_as(first, rejection), *history.heard[1:]])
    return with_rows(told, [row, *history.rows[1:]])


def change_a_joule(history: History) -> History:
    told = replace(history.joules[0], idle_j=history.joules[0].idle_j + 1e-3)
    return replace(history, joules=[told])


def lose_a_joule(history: History) -> History:
    first, *rest = history.ledger
    return replace(history, ledger=[replace(first, measured_j=0.0), *rest])


def report_a_joule_too_much(history: History) -> History:
    first, *rest = history.ledger
    return replace(history, ledger=[replace(first, reported_j=first.reported_j + 1e-3), *rest])


def roll_a_policy_back(history: History) -> History:
    return replace(history, in_force={**history.in_force, "gate": 1})


def roll_a_policy_back_that_nobody_was_told_of(history: History) -> History:
    return replace(
        history,
        in_force={**history.in_force, "gate": 1},
        told=[one for one in history.told if one.version == 1],
    )


def put_a_rejected_policy_in_force(history: History) -> History:
    return replace(history, in_force={**history.in_force, "gate": 3})


def forget_a_policy(history: History) -> History:
    return replace(history, in_force={"meter": 2})


def spoil_a_message(history: History, **changes: Any) -> History:
    first, *rest = history.heard
    return replace(history, heard=[replace(first, reply=replace(first.reply, **changes)), *rest])


def answer_otherwise_than_logged(history: History) -> History:
    return spoil_a_message(history, label="another")


def answer_without_a_row(history: History) -> History:
    return spoil_a_message(history, id="in no log")


def answer_under_another_stream(history: History) -> History:
    return spoil_a_message(history, stream="s9")


def answer_a_siblings_request(history: History) -> History:
    first, second, *rest = history.heard
    marks = first.correlation, second.correlation
    swapped = [replace(first, correlation=marks[1]), replace(second, correlation=marks[0])]
    return replace(history, heard=[*swapped, *rest])


def log_what_nobody_sent(history: History) -> History:
    reply = replace(history.rows[0].reply, id="phantom", tenant="ghost")
    return with_rows(history, [*history.rows, Row(reply=reply, correlation=None)])


def put_a_policy_in_force_that_nobody_pushed(history: History) -> History:
    return replace(history, in_force={**history.in_force, "ghost": 1})


def tell_an_older_version_again(history: History) -> History:
    return replace(history, told=[*history.told, Told(tenant="gate", version=1)])


def charge_less_than_nothing(history: History) -> History:
    first, *rest = history.ledger
    return replace(history, ledger=[replace(first, modelled_j=-1.0), *rest])


def measure_less_as_time_goes_on(history: History) -> History:
    more = replace(history.joules[0], idle_j=4.0, integrated_j=history.joules[0].integrated_j + 2)
    return replace(history, joules=[more, *history.joules])


DISAGREES = [
    (answer_otherwise_than_logged, "gate-0 is another on d/gate/result than in the log"),
    (answer_under_another_stream, "the stream s9"),
    (answer_elsewhere, "d/gate/result/other"),
    (log_what_nobody_sent, "the answer phantom for ghost, which nobody asked for"),
    (put_a_policy_in_force_that_nobody_pushed, "in force for ghost, for which nobody pushed"),
    (tell_an_older_version_again, "gate was told version 1 after version 2"),
    (charge_less_than_nothing, "less than nothing for gate"),
    (measure_less_as_time_goes_on, "J were measured, after"),
]


@pytest.mark.parametrize("history", [MARKED, UNMARKED], ids=["marked", "unmarked"])
@pytest.mark.parametrize(("spoil", "sentence"), DISAGREES)
def test_what_disagrees_is_caught(
    spoil: Callable[[History], History], sentence: str, history: History
) -> None:
    found = violations(spoil(history))

    assert any(sentence in one for one in found), found


def test_an_answer_that_is_in_no_log_is_caught() -> None:
    found = violations(answer_without_a_row(UNMARKED))

    assert "the reply in no log on d/gate/result is not in the log" in found


def test_an_answer_to_a_siblings_request_is_caught() -> None:
    found = violations(answer_a_siblings_request(MARKED))

    assert any("went to another request than it is logged for" in one for one in found), found


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (drop_a_row, "gate:0 of gate was acknowledged and is not in the log"),
        (duplicate_a_row, "gate:0 of gate is in the log 2 times"),
        (drop_a_message, "gate:0 of gate was acknowledged and nobody heard a reply"),
        (swap_tenants, "on d/meter/result is an answer to gate"),
        (answer_with_foreign_correlation, "carries correlation data of meter"),
        (answer_with_unknown_correlation, "correlation data that nobody sent"),
        (answer_elsewhere, "should have gone to d/gate/result"),
        (reject_a_request, "gate:0 of gate was rejected with 415"),
        (change_a_joule, "J that were measured"),
        (lose_a_joule, "the ledger holds 3.0 J of 4.0 J"),
        (report_a_joule_too_much, "the log has"),
        (roll_a_policy_back, "version 1 is in force for gate, after 2 was accepted"),
        (roll_a_policy_back_that_nobody_was_told_of, "version 2 for gate was acknowledged"),
        (put_a_rejected_policy_in_force, "version 3 is in force for gate, which nobody pushed"),
        (forget_a_policy, "version None is in force for gate"),
    ],
)
def test_a_violation_is_caught(spoil: Callable[[History], History], sentence: str) -> None:
    found = violations(spoil(MARKED))

    assert any(sentence in one for one in found), found


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (drop_a_row, "2 were acknowledged, 1 are in the log"),
        (duplicate_a_row, "2 were sent, 3 are in the log"),
        (drop_a_message, "2 were acknowledged, 1 answered"),
        (swap_tenants, "on d/meter/result is an answer to gate"),
        (reject_a_request, "was rejected with 415"),
    ],
)
def test_a_violation_is_caught_without_correlation_data(
    spoil: Callable[[History], History], sentence: str
) -> None:
    found = violations(spoil(UNMARKED))

    assert any(sentence in one for one in found), found


def test_what_was_never_acknowledged_was_never_promised() -> None:
    first, *rest = MARKED.sent
    unacknowledged = replace(MARKED, sent=[replace(first, acknowledged_s=None), *rest])

    assert violations(drop_a_message(drop_a_row(unacknowledged))) == []


def test_what_a_killed_broker_forgot_may_be_lost_and_nothing_before_it() -> None:
    forgetful = replace(MARKED, forgotten=[Forgotten(saved_s=0.4, killed_s=0.6)])

    found = violations(replace(drop_a_row(drop_a_message(forgetful)), heard=MARKED.heard[2:]))

    assert found == ["the request gate:1 of gate was acknowledged and nobody heard a reply"]


def test_what_was_in_a_damaged_log_may_be_gone_from_it_but_was_answered() -> None:
    damaged = replace(MARKED, rows_lost_until_s=1.0)

    assert violations(drop_a_row(damaged)) == []
    assert violations(drop_a_message(damaged)) != []


def test_what_was_in_a_damaged_log_may_be_in_the_ledger_alone_and_never_in_the_log_alone() -> None:
    damaged = replace(MARKED, rows_lost_until_s=1.0)
    first, *rest = damaged.ledger
    less = replace(damaged, ledger=[replace(first, reported_j=first.reported_j - 1e-3), *rest])

    assert violations(report_a_joule_too_much(damaged)) == []
    assert len(violations(less)) == 1


def test_a_rejection_that_is_documented_is_none() -> None:
    first, *rest = MARKED.sent
    tolerant = replace(MARKED, sent=[replace(first, tolerated=frozenset({415})), *rest])

    assert violations(reject_a_request(tolerant)) == []


def test_a_rejection_at_the_door_is_known_by_the_reply_that_was_heard() -> None:
    first, *rest = MARKED.sent
    rejection = replace(REJECTION, id="no", tenant=first.tenant, stream=first.stream)
    turned_away = replace(
        with_rows(MARKED, [Row(reply=rejection, correlation=None), *MARKED.rows[1:]]),
        sent=[replace(first, tolerated=frozenset({415})), *rest],
        heard=[replace(MARKED.heard[0], reply=rejection), *MARKED.heard[1:]],
    )

    assert violations(turned_away) == []


def test_a_push_that_the_appliance_could_not_take_need_not_be_in_force() -> None:
    failed = Told(tenant="gate", version=1, unable=True)
    told = [one for one in MARKED.told if (one.tenant, one.version) != ("gate", 2)]

    history = replace(roll_a_policy_back(MARKED), told=[*told, failed])

    assert violations(history) == []
