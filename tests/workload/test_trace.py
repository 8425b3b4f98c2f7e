"""Traces as people name them, and requests drawn from processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.errors import WorkloadError
from appliance.workload.synthetic import draw
from appliance.workload.trace import Bursty, Generated, Logged, Poisson, Recorded, parse_trace


def test_one_rate_is_every_tenants() -> None:
    trace = parse_trace("poisson:10")

    assert isinstance(trace, Generated)
    assert trace.of(["a", "b"]) == {"a": Poisson(rate_hz=10.0), "b": Poisson(rate_hz=10.0)}


def test_a_rate_may_be_given_by_tenant() -> None:
    trace = parse_trace("poisson:gate=5/s,meter=30/min")

    assert isinstance(trace, Generated)
    assert trace.of(["gate", "meter"]) == {
        "gate": Poisson(rate_hz=5.0),
        "meter": Poisson(rate_hz=0.5),
    }


def test_a_bursty_trace_has_two_rates_and_the_time_in_each() -> None:
    process = Bursty(quiet_hz=2.0, busy_hz=40.0, busy_s=5.0, quiet_s=60.0)

    assert parse_trace("bursty:2..40@5s/1min") == Generated(every=process)
    assert parse_trace("bursty:gate=2..40@5s/1min") == Generated(by_tenant={"gate": process})


def test_the_log_is_named_by_how_far_back() -> None:
    assert parse_trace("log:24h") == Logged(seconds=86_400.0)


def test_whatever_else_names_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.touch()

    assert parse_trace(str(path)) == Recorded(path=path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("poison:3", "poison:3 is no trace: name a file, poisson:RATE"),
        ("poisson:", "not a number"),
        ("poisson:0", "0 is too little"),
        ("poisson:5,3", "'5' is no TENANT=RATE"),
        ("poisson:a=5,a=3", "'a=3' is no TENANT=RATE of a tenant of its own"),
        ("bursty:3", "'3' is no pair of rates"),
        ("bursty:3..9@5s", "not a number"),
        ("log:yesterday", "not a number"),
    ],
)
def test_what_is_no_trace_is_said_in_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(WorkloadError, match="(?i)" + complaint.replace("(", r"\(")):
        parse_trace(text)


def test_rates_and_policies_must_name_the_same_tenants() -> None:
    trace = Generated(by_tenant={"gate": Poisson(rate_hz=1.0)})

    with pytest.raises(WorkloadError, match="differ in meter"):
        trace.of(["gate", "meter"])


def test_poisson_requests_come_at_their_rate_with_exponential_gaps() -> None:
    arrivals = list(draw({"gate": Poisson(rate_hz=20.0)}, seconds=1000.0, seed=3))

    gaps_s = np.diff([arrival.at_s for arrival in arrivals])
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    assert gaps_s.std() == pytest.approx(gaps_s.mean(), rel=0.03)


def test_bursty_requests_come_at_their_mean_rate_in_bunches() -> None:
    process = Bursty(quiet_hz=1.0, busy_hz=50.0, busy_s=1.0, quiet_s=4.0)

    arrivals = list(draw({"gate": process}, seconds=20_000.0, seed=3))

    counts = np.histogram([a.at_s for a in arrivals], np.arange(0.0, 20_001.0))[0]
    assert len(arrivals) / 20_000.0 == pytest.approx(process.rate_hz, rel=0.05)
    assert counts.var() > 5 * counts.mean()


def test_a_tenants_requests_do_not_depend_on_who_is_beside_it() -> None:
    alone = list(draw({"a": Poisson(rate_hz=5.0)}, seconds=50.0, seed=1))
    rates = {"b": Poisson(rate_hz=9.0), "a": Poisson(rate_hz=5.0)}

    beside = list(draw(rates, seconds=50.0, seed=1))

    assert [arrival for arrival in beside if arrival.tenant == "a"] == alone
    assert [a.at_s for a in beside] == sorted(a.at_s for a in beside)
