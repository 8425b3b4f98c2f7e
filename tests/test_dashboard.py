"""What the dashboard's pages are made of, without a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.broker import Mosquitto
from appliance.dashboard import charts, draft
from appliance.dashboard.charts import Line
from appliance.dashboard.explanation import explanation_rows, figures_rows
from appliance.dashboard.pushing import Push
from appliance.dashboard.replay import Figures, happened_in_telemetry, trace_of
from appliance.dashboard.sessions import (
    MAX_FAILURES,
    MAX_FAILURES_OF_ALL,
    MAX_SESSIONS,
    SESSION_S,
    WINDOW_S,
    LoginRefused,
    Sessions,
)
from appliance.errors import BrokerError, WorkloadError
from appliance.fleet import words
from appliance.fleet.fleet import Fleet
from appliance.fleet.history import History
from appliance.fleet.marks import Mark, MarkKind
from appliance.fleet.reports import Received
from appliance.session import Session
from appliance.watcher import Watcher
from appliance.workload.trace_file import read_trace_file
from tests.appliances import address
from tests.engines import tiny_engine
from tests.reports import PREFIX, TOPICS, policy_state, result, status, tenant_telemetry
from tests.waiting import wait_until

PASSWORD = "correct horse"  # noqa: S105
WRONG = "battery staple"


def fleet_of(*messages: Received, now_s: float = 1000.0) -> Fleet:
    fleet = Fleet(prefix=PREFIX)
    for number, message in enumerate(messages):
        fleet.take(message, now_s + number)
    return fleet


def test_a_session_lasts_for_its_time() -> None:
    sessions = Sessions(PASSWORD)

    token = sessions.log_in(PASSWORD, address="a", now_s=0.0)

    assert sessions.holds(token, SESSION_S - 1.0)
    assert not sessions.holds(token, SESSION_S)
    assert not sessions.holds("another", 0.0)
    assert not sessions.holds(None, 0.0)


def test_who_logs_out_is_out() -> None:
    sessions = Sessions(PASSWORD)
    token = sessions.log_in(PASSWORD, address="a", now_s=0.0)

    sessions.log_out(token)

    assert not sessions.holds(token, 1.0)


def test_without_a_password_nobody_logs_in() -> None:
    with pytest.raises(LoginRefused, match="no password"):
        Sessions(None).log_in("", address="a", now_s=0.0)


def test_an_address_that_fails_too_often_waits_and_others_do_not() -> None:
    sessions = Sessions(PASSWORD)
    for second in range(MAX_FAILURES):
        with pytest.raises(LoginRefused, match="not the password"):
            sessions.log_in(WRONG, address="a", now_s=float(second))

    with pytest.raises(LoginRefused, match="try again in 50 s"):
        sessions.log_in(PASSWORD, address="a", now_s=10.0)

    assert sessions.log_in(PASSWORD, address="b", now_s=10.0)
    assert sessions.log_in(PASSWORD, address="a", now_s=WINDOW_S)


def test_many_addresses_that_fail_make_all_wait() -> None:
    sessions = Sessions(PASSWORD)
    for number in range(MAX_FAILURES_OF_ALL):
        with pytest.raises(LoginRefused):
            sessions.log_in(WRONG, address=str(number), now_s=0.0)

    with pytest.raises(LoginRefused, match="too many attempts"):
        sessions.log_in(PASSWORD, address="b", now_s=1.0)


def test_sessions_are_bounded_and_the_oldest_goes() -> None:
    sessions = Sessions(PASSWORD)

    tokens = [sessions.log_in(PASSWORD, address="a", now_s=0.0) for _ in range(MAX_SESSIONS + 1)]

    assert not sessions.holds(tokens[0], 1.0)
    assert sessions.holds(tokens[1], 1.0)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(None, "\N{EN DASH}"), (1.0, "100 %"), (0.99999, "99.99 %"), (0.975, "97.5 %"), (0.0, "0 %")],
)
def test_what_is_short_of_all_never_reads_as_all(fraction: float | None, text: str) -> None:
    assert words.percent(fraction) == text


@pytest.mark.parametrize(
    ("figure", "text"),
    [(18.234, "18.2 W"), (0.5, "0.5 W"), (1240.4, "1240 W"), (None, words.NOTHING)],
)
def test_figures_have_three_digits_and_a_unit(figure: float | None, text: str) -> None:
    assert words.number(figure, "W") == text


def test_joules_are_told_in_a_fitting_unit() -> None:
    told = [words.energy(joules) for joules in (2500.0, 3.0, 0.0125, 4e-6)]

    assert told == ["2.5 kJ", "3 J", "12.5 mJ", "4 µJ"]


def test_a_chart_draws_each_line_and_leaves_out_what_is_not_known() -> None:
    history = History()
    history.append(1.0, {"p99": 10.0, "bound": 40.0})
    history.append(2.0, {"bound": 40.0})

    options = charts.chart(
        history,
        [Line(column="p99", name="p99"), Line(column="bound", name="bound", is_bound=True)],
        now_s=3.0,
    )

    p99, bound = options["series"]
    assert p99["data"] == [[1000, 10.0], [2000, None]]
    assert bound["data"] == [[1000, 40.0], [2000, 40.0]]
    assert options["tooltip"]["renderMode"] == "richText"


def test_a_bound_that_is_not_set_is_no_line_and_the_others_keep_their_colours() -> None:
    lines = [Line(column=name, name=name) for name in ("p50", "bound", "p99")]
    history, bounded = History(), History()
    history.append(1.0, {"p50": 5.0, "p99": 10.0})
    bounded.append(1.0, {"p50": 5.0, "p99": 10.0, "bound": 40.0})

    without, with_bound = (charts.chart(one, lines, now_s=3.0) for one in (history, bounded))

    assert [one["name"] for one in without["series"]] == ["p50", "p99"]
    assert without["series"][1]["itemStyle"] == with_bound["series"][2]["itemStyle"]


def test_marks_that_lie_close_together_have_one_name() -> None:
    marks = [Mark(at_s=at_s, kind=MarkKind.MODE, text=str(at_s)) for at_s in (10.0, 10.1, 25.0)]

    options = charts.chart(
        History(), [Line(column="x", name="x")], marks=marks, now_s=30.0, marks_named=True
    )

    shown = [mark["label"]["show"] for mark in options["series"][0]["markLine"]["data"]]
    assert shown == [False, True, True]


def test_a_draft_begins_as_the_next_version_of_what_is_in_force() -> None:
    document = "# ours\ntenant: gate\nversion: 7 # seven\nengine: tiny\n"
    fleet = fleet_of(policy_state("gate", "a", version=7, document=document))

    text = draft.new_draft(fleet.tenants["a", "gate"].state, tenant="gate")

    assert text == "# ours\ntenant: gate\nversion: 8 # seven\nengine: tiny\n"


def test_json_in_one_line_is_edited_as_yaml() -> None:
    document = '{"tenant": "gate", "version": 7, "bounds": {"response_time": "40ms"}}'
    fleet = fleet_of(policy_state("gate", "a", version=7, document=document))

    text = draft.new_draft(fleet.tenants["a", "gate"].state, tenant="gate")

    assert text == "tenant: gate\nversion: 8\nbounds:\n  response_time: 40ms\n"


@pytest.mark.parametrize("text", ['{"tenant": "gate", "version": 1}', '{\n  "version": 1\n}'])
def test_the_version_of_a_json_document_can_be_raised(text: str) -> None:
    assert draft.with_version(text, 12) == text.replace("1", "12")


def test_a_first_draft_is_right_whatever_the_tenant_is_called(tmp_path: Path) -> None:
    tenant = 'a: "b" - c'

    checked = draft.check(draft.new_draft(None, tenant=tenant), tenant=tenant, engines=tmp_path)

    assert checked.problems == ()
    assert checked.without_engine is not None


def test_a_draft_is_checked_against_its_engine(tmp_path: Path) -> None:
    tiny_engine(tmp_path / "tiny")
    text = "tenant: gate\nversion: 1\nengine: tiny\nexit_when: [exit >= 0]\n"

    checked = draft.check(text, tenant="gate", engines=tmp_path)

    (problem,) = checked.problems
    assert problem.line == 4


def test_a_draft_for_another_tenant_is_refused(tmp_path: Path) -> None:
    checked = draft.check("tenant: x\nversion: 1\nengine: t\n", tenant="gate", engines=tmp_path)

    assert "'gate'" in checked.problems[0].message


def test_where_the_engine_is_not_here_the_reported_table_is_shown(tmp_path: Path) -> None:
    exit_ = {
        "exit": 0, "response_time_ms": 1.5, "energy_mj": 2.0, "accuracy": 0.9,
        "reachable": True, "dominated": False, "broken": [],
    }  # fmt: skip
    state = fleet_of(policy_state("gate", "a", feasibility=[exit_])).tenants["a", "gate"].state
    checked = draft.check(
        "tenant: gate\nversion: 2\nengine: digits\n", tenant="gate", engines=tmp_path
    )

    rows, note = explanation_rows(checked, state)

    assert (rows[0]["time"], rows[0]["energy"], rows[0]["accuracy"]) == ("1.5 ms", "2 mJ", "90 %")
    assert "as reported" in note


def test_a_draft_with_problems_has_no_table_of_its_own(tmp_path: Path) -> None:
    checked = draft.check("tenant: gate\n", tenant="gate", engines=tmp_path)

    rows, note = explanation_rows(checked, None)

    assert rows == []
    assert "once nothing is wrong" in note


def test_a_push_is_complete_once_every_appliance_has_answered() -> None:
    document = "the text"
    fleet = fleet_of(policy_state("gate", "a"), policy_state("gate", "b"))
    push = Push(fleet, tenant="gate", document=document, version=2)

    fleet.take(policy_state("gate", "a", version=2, document=document), 1010.0)
    half = push.outcome()
    fleet.take(policy_state("gate", "b", version=2, document=document), 1011.0)

    assert not half.is_complete
    assert push.outcome().is_in_force
    assert push.outcome().sentence == "version 2 is in force on a, b"


def test_a_push_of_a_version_that_another_has_is_stale() -> None:
    fleet = fleet_of(policy_state("gate", "a", version=2, document="theirs"))
    push = Push(fleet, tenant="gate", document="mine", version=2)

    fleet.take(
        policy_state("gate", "a", version=2, document="theirs", rejection=(409, "stale version")),
        1010.0,
    )

    assert push.outcome().is_stale
    assert not push.outcome().is_in_force


def test_what_telemetry_told_of_is_played_as_often_and_as_long(tmp_path: Path) -> None:
    fleet = fleet_of(
        tenant_telemetry("gate", "a", exits={"0": 5}),
        tenant_telemetry("gate", "a", exits={"0": 3}),
        tenant_telemetry('a "b",', "a", exits={"0": 2}),
    )
    file = tmp_path / "trace.csv"
    file.write_text(trace_of(fleet.tenants_of("a")))

    arrivals = list(read_trace_file(file))

    assert len(arrivals) == 10
    assert sum(arrival.tenant == 'a "b",' for arrival in arrivals) == 2
    assert np.diff([arrival.at_s for arrival in arrivals]).min() >= 0.0


def test_nothing_told_of_is_nothing_to_play() -> None:
    with pytest.raises(WorkloadError, match="none to simulate"):
        trace_of([])


def test_what_happened_is_summed_up_from_telemetry() -> None:
    fleet = fleet_of(
        tenant_telemetry("gate", "a", exits={"0": 6}, p99_ms=10.0, bound_kept=1.0),
        tenant_telemetry("gate", "a", exits={"1": 2}, p99_ms=30.0, bound_kept=0.0),
    )

    happened = happened_in_telemetry(fleet.tenants["a", "gate"])

    assert (happened.answers, dict(happened.exits)) == (8, {0: 6, 1: 2})
    assert happened.p99_ms == pytest.approx(15.0)
    assert happened.bound_kept == pytest.approx(0.75)
    assert happened.energy_j == pytest.approx(16e-3)


def test_what_happened_stands_beside_what_would_have() -> None:
    would = Figures(
        requests=4, answers=4, rejected=0, exits={0: 1, 1: 3}, p50_ms=1.0, p99_ms=2.0,
        bound_kept=1.0, energy_j=8e-3,
    )  # fmt: skip

    rows = {row["what"]: row for row in figures_rows(None, would)}

    assert rows["exit 1"]["would"] == "75 %"
    assert rows["energy of an answer"]["would"] == "2 mJ"
    assert rows["requests"]["happened"] == "\N{EN DASH}"


def test_a_watcher_hears_of_results_only_while_somebody_looks(broker: Mosquitto) -> None:
    with Watcher(address(broker), prefix=PREFIX) as watcher, Session(address(broker)) as client:
        heard: list[str] = []

        def hears(message: Received) -> bool:
            client.publish(message.topic, message.payload)
            heard.extend(received.topic for _, received in watcher.take())
            return message.topic in heard

        wait_until(lambda: hears(status("watched", "online")))
        client.publish(TOPICS.result("gate"), result("gate", "watched").payload)
        wait_until(lambda: hears(tenant_telemetry("gate", "watched")))
        assert TOPICS.result("gate") not in heard
        watcher.look_at("gate")
        wait_until(lambda: hears(result("gate", "watched")))

    assert watcher.link.connected is False


def test_without_a_broker_nothing_is_pushed(broker: Mosquitto) -> None:
    watcher = Watcher(address(broker), prefix=PREFIX)

    with pytest.raises(BrokerError, match="nothing was pushed"):
        watcher.push("gate", b"")
