"""The picture of a fleet, made of what appliances publish."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.fleet.appliances import Standing
from appliance.fleet.fleet import MAX_HELD_BYTES, MAX_TENANTS, Fleet
from appliance.fleet.history import History
from appliance.fleet.marks import MAX_CHARACTERS, MarkKind
from appliance.fleet.reports import MAX_BYTES, Received, Unreadable, read_report
from appliance.fleet.room import FORGOTTEN_AFTER_S
from appliance.fleet.words import short
from tests.reports import (
    PREFIX,
    appliance_telemetry,
    policy_state,
    result,
    status,
    tenant_telemetry,
)


def fleet_of(*messages: Received, now_s: float = 1000.0) -> Fleet:
    fleet = Fleet(prefix=PREFIX)
    for message in messages:
        fleet.take(message, now_s)
    return fleet


def test_a_fleet_says_who_is_online_and_what_all_of_them_do() -> None:
    fleet = fleet_of(
        status("a", "online"),
        appliance_telemetry("a", power_w=6.0, tenants={"gate": 20}, window_s=2.0),
        status("b", "stopped"),
        status("c", "offline"),
        appliance_telemetry("c", power_w=9.0, tenants={"gate": 20}),
    )

    summary = fleet.summary(1001.0)

    assert summary.standings == {Standing.ONLINE: 1, Standing.STOPPED: 1, Standing.OFFLINE: 1}
    assert summary.power_w == 6.0
    assert summary.rate_per_s == 10.0


def test_the_worst_bound_kept_is_that_of_the_tenant_who_keeps_its_bounds_least() -> None:
    fleet = fleet_of(
        status("a", "online"),
        tenant_telemetry("gate", "a", bound_kept=0.99),
        tenant_telemetry("meter", "a", bound_kept=0.75),
    )

    worst = fleet.summary(1001.0).worst

    assert worst is not None
    assert (worst.tenant, worst.bound_kept) == ("meter", 0.75)


def test_answers_weigh_as_many_as_they_are_in_the_bound_kept() -> None:
    fleet = fleet_of(
        status("a", "online"), tenant_telemetry("gate", "a", bound_kept=1.0, exits={"0": 30})
    )
    fleet.take(tenant_telemetry("gate", "a", bound_kept=0.0, exits={"0": 10}), 1001.0)

    assert fleet.tenants["a", "gate"].bound_kept(1002.0) == pytest.approx(0.75)


def test_an_appliance_that_is_online_but_tells_nothing_is_silent() -> None:
    fleet = fleet_of(status("a", "online"), appliance_telemetry("a", window_s=10.0))

    assert fleet.appliances["a"].standing(1029.0) is Standing.ONLINE
    assert fleet.appliances["a"].standing(1031.0) is Standing.SILENT


def test_changes_of_modes_and_policies_leave_marks() -> None:
    fleet = fleet_of(policy_state("gate", "a", version=1, retained=True))
    fleet.take(tenant_telemetry("gate", "a", mode=None), 1001.0)
    fleet.take(tenant_telemetry("gate", "a", mode="saver"), 1002.0)
    fleet.take(policy_state("gate", "a", version=2), 1003.0)

    marks = fleet.tenants["a", "gate"].marks

    assert [(mark.at_s, mark.kind) for mark in marks] == [
        (1002.0, MarkKind.MODE),
        (1003.0, MarkKind.POLICY),
    ]


def test_a_policy_that_is_turned_away_leaves_a_mark() -> None:
    fleet = fleet_of(policy_state("gate", "a", version=3, retained=True))

    fleet.take(policy_state("gate", "a", version=3, rejection=(409, "stale version")), 1001.0)

    (mark,) = fleet.tenants["a", "gate"].marks
    assert mark.kind is MarkKind.REJECTION
    assert "409 stale version" in mark.text


def test_a_message_that_is_none_is_kept_as_such() -> None:
    fleet = fleet_of(Received(topic=f"{PREFIX}/gate/telemetry/a", payload=b"{"))

    (fault,) = fleet.faults
    assert fault.topic == f"{PREFIX}/gate/telemetry/a"
    assert fault.sentence
    assert fleet.faulty == 1
    assert not fleet.tenants


@pytest.mark.parametrize(
    ("topic", "payload", "sentence"),
    [
        ("gate/telemetry/a", b"x" * (MAX_BYTES + 1), "longer"),
        ("gate/telemetry/a", json.dumps({"tenant": "gate"}).encode(), "appliance"),
        ("gate/telemetry/a", tenant_telemetry("other", "a").payload, "names the tenant"),
        ("gate/telemetry/a", tenant_telemetry("gate", "b").payload, "names the appliance"),
        ("gate/telemetry/a", tenant_telemetry("gate", "a", exits={"-1": 1}).payload, "exits"),
        ("gate/telemetry/a", tenant_telemetry("gate", "a", rate_per_s=float("nan")).payload, "nan"),
        ("gate/telemetry/a", tenant_telemetry("gate", "a", rate_per_s=1e300).payload, "1e+300"),
        ("\u200b/telemetry/a", tenant_telemetry("\u200b", "a").payload, "unprintable"),
        ("appliances/a/status", b"<b>", "online, stopped, offline"),
        ("gate/request", b"", "nothing that an appliance reports"),
    ],
)
def test_what_is_no_report_is_refused_with_a_sentence(
    topic: str, payload: bytes, sentence: str
) -> None:
    message = Received(topic=f"{PREFIX}/{topic}", payload=payload)

    with pytest.raises(Unreadable, match=sentence.replace("+", r"\+")):
        read_report(message, prefix=PREFIX)


@given(
    topic=st.sampled_from(["gate/telemetry/a", "appliances/a/telemetry", "gate/policy/state/a"]),
    payload=st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
)
def test_no_payload_ends_the_picture(topic: str, payload: bytes) -> None:
    fleet_of(Received(topic=f"{PREFIX}/{topic}", payload=payload)).summary(1001.0)


def test_unknown_fields_are_passed_by() -> None:
    message = tenant_telemetry("gate", "a", of_a_later_version={"x": 1})

    assert fleet_of(message).tenants["a", "gate"].telemetry is not None


def test_telemetry_of_an_older_appliance_lacks_what_it_does_not_know() -> None:
    reading: dict[str, Any] = json.loads(tenant_telemetry("gate", "a").payload)
    for name in ("policy_version", "bounds", "bound_kept", "confidence"):
        del reading[name]
    old = Received(topic=f"{PREFIX}/gate/telemetry/a", payload=json.dumps(reading).encode())

    fleet = fleet_of(status("a", "online"), old)

    assert fleet.tenants["a", "gate"].bound_kept(1001.0) is None
    assert fleet.summary(1001.0).worst is None


def test_tenants_without_end_are_left_out_and_counted() -> None:
    fleet = fleet_of(*(policy_state(f"t{n}", "a") for n in range(MAX_TENANTS + 7)))

    assert len(fleet.tenants) == MAX_TENANTS
    assert fleet.left_out == 7


def test_long_policies_without_end_are_left_out_and_counted() -> None:
    long = "#" * 200_000
    fleet = fleet_of(*(policy_state(f"t{n}", "a", document=long) for n in range(100)))

    held = [view for view in fleet.tenants.values() if view.state is not None]

    assert len(held) == MAX_HELD_BYTES // len(policy_state("t10", "a", document=long).payload)
    assert fleet.left_out == 100 - len(held)


def test_a_long_name_makes_no_long_mark() -> None:
    fleet = fleet_of(tenant_telemetry("gate", "a"), tenant_telemetry("gate", "a", mode="m" * 9999))

    (mark,) = fleet.tenants["a", "gate"].marks
    assert len(mark.text) == MAX_CHARACTERS


def test_who_was_silent_for_long_makes_room() -> None:
    fleet = fleet_of(*(policy_state(f"t{n}", "a") for n in range(MAX_TENANTS)))

    fleet.take(policy_state("new", "a"), 1000.0 + FORGOTTEN_AFTER_S)

    assert ("a", "new") in fleet.tenants
    assert len(fleet.tenants) == MAX_TENANTS


def test_an_appliance_whose_status_is_taken_away_is_forgotten() -> None:
    fleet = fleet_of(status("a", "offline"), policy_state("gate", "a"), status("a", ""))

    assert not fleet.appliances
    assert not fleet.tenants


def test_a_removed_policy_is_no_longer_in_force() -> None:
    fleet = fleet_of(
        policy_state("gate", "a"), Received(topic=f"{PREFIX}/gate/policy/state/a", payload=b"")
    )

    assert fleet.tenants["a", "gate"].state is None


def test_a_clock_that_is_off_is_told_by_a_reply_that_has_just_come() -> None:
    fleet = fleet_of(status("a", "online"))
    fleet.take(result("gate", "a", arrived_s=3600.0 + 1000.0, response_time_ms=0.0), 1000.0)

    assert fleet.appliances["a"].clock_off_s == pytest.approx(3600.0)


def test_a_history_forgets_what_is_older_than_its_span() -> None:
    history = History(span_s=10.0)

    for second in range(30):
        history.append(float(second), {"x": float(second)})

    assert history.times_s().tolist() == list(map(float, range(19, 30)))
    assert history.column("x").tolist() == list(map(float, range(19, 30)))


def test_a_full_history_merges_what_is_old_and_keeps_the_peaks() -> None:
    history = History(peaks=("p99",), sums=("window",), rows=8, span_s=1e9)

    for second in range(9):
        figure = float(second)
        history.append(figure, {"p99": figure, "rate": figure, "window": 1.0})

    assert history.times_s().tolist() == [1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert history.column("p99").tolist() == [1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert history.column("rate").tolist() == [0.5, 2.5, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert history.column("window").tolist() == [2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_figure_that_a_row_lacks_is_not_a_number() -> None:
    history = History()
    history.append(0.0, {"a": 1.0})
    history.append(1.0, {"b": 2.0})

    assert np.isnan(history.column("b")[0])
    assert np.isnan(history.column("a")[1])


def test_a_clock_set_back_does_not_turn_a_history_around() -> None:
    history = History()
    history.append(100.0, {"a": 1.0})
    history.append(50.0, {"a": 2.0})

    assert history.times_s().tolist() == [100.0, 100.0]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-10, 10)), max_size=200))
def test_a_history_is_bounded_and_in_order(rows: list[tuple[float, float]]) -> None:
    history = History(rows=16, span_s=1000.0)

    for at_s, figure in rows:
        history.append(at_s, {"x": figure})

    times_s = history.times_s()
    assert len(history) <= 16
    assert (np.diff(times_s) >= 0).all()
    assert not len(times_s) or times_s[-1] - times_s[0] <= 1000.0
    assert len(history.column("x")) == len(times_s)


def test_what_is_not_printed_is_shown_rather_than_done() -> None:
    said = "\x1b[31mred\x07 \u202egnol\n[bold]"

    assert short(said) == r"\x1b[31mred\x07 \u202egnol [bold]"
