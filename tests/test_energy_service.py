"""Joules end to end: a stand-in for tegrastats as a real child, real broker, real SQLite."""

from __future__ import annotations

import json
import shlex
import signal
import sqlite3
import sys
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.broker import Mosquitto
from appliance.demo.tegrastats import BOARDS, Curve
from appliance.energy import Energy
from appliance.ledger import DAY_S, HOUR_S
from appliance.messages import Rejection, Reply, Result
from appliance.power.tegrastats_line import parse_line
from appliance.reader import Reader
from appliance.service import Service
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import ApplianceProcess, Watch, client_of, push, serving
from tests.gate import gate_settings, npy
from tests.waiting import wait_until

STAND_IN = shlex.join([sys.executable, "-m", "appliance.demo.tegrastats", "--board", "orin-nano"])
UNLESS = 'test -e "$0" && exit 1; exec "$@"'
"""A command, unless there is a file."""

ALWAYS_S = 1000 * 365 * DAY_S
"""One period for all that the ledger has, whatever hour the test runs in."""


def policy(version: int = 1, *, rest: str = "") -> str:
    return f"tenant: gate\nversion: {version}\nengine: tiny\n{rest}"


def result(reply: Reply) -> Result:
    assert isinstance(reply, Result), reply
    return reply


def rejection(reply: Reply) -> Rejection:
    assert isinstance(reply, Rejection), reply
    return reply


def telemetry(service: Service, client: Session, topic: str) -> dict[str, Any]:
    """What is told next on a topic."""
    watch = Watch(client, topic)
    service.tell()
    told: dict[str, Any] = json.loads(watch.next()[1])
    return told


def stand_ins() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    running = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in running if "appliance.demo.tegrastats" in child.cmdline()]


def logged_j(settings: Settings) -> float:
    with closing(sqlite3.connect(settings.database)) as connection:
        (joules,) = connection.execute("SELECT SUM(energy_mj) / 1000 FROM inferences").fetchone()
    return float(joules)


# The stand-in.


@pytest.mark.parametrize("name", BOARDS)
def test_the_stand_in_prints_what_the_parser_reads(name: str) -> None:
    line = parse_line(BOARDS[name].line(7.123, 6.5, datetime(2026, 9, 15, tzinfo=timezone.utc)))

    assert line.total_w == pytest.approx(7.123)


def test_its_curve_is_integrated_to_within_a_percent_at_ten_samples_a_second() -> None:
    curve = Curve([(0.0, 4.0), (0.5, 4.0), (0.6, 9.0), (1.3, 8.0), (1.35, 4.0), (2.0, 4.0)])
    energy = Energy()
    times_s = [number * 0.1 + (number % 7) * 0.003 for number in range(601)]
    for time_s in times_s:
        energy.sample(time_s, round(curve.power_w(time_s), 3), ("VDD_IN",))

    truth_j = curve.energy_j(times_s[-1]) - curve.energy_j(times_s[0])

    assert energy.integrated_j == pytest.approx(truth_j, rel=0.01)


def test_its_curve_repeats_and_its_energy_is_the_area_under_it() -> None:
    curve = Curve([(0.0, 2.0), (1.0, 4.0), (2.0, 0.0)])

    assert [curve.power_w(t) for t in (0.0, 0.5, 1.0, 1.5, 2.5)] == [2.0, 3.0, 4.0, 2.0, 3.0]
    assert [curve.energy_j(t) for t in (0.0, 1.0, 2.0, 4.0, 5.0)] == [0.0, 3.0, 5.0, 10.0, 13.0]


# The appliance.


def test_power_becomes_joules_in_results_telemetry_and_ledger(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path, meter="tegrastats", tegrastats=STAND_IN)

    with serving(settings) as service, client_of(settings) as client:
        push(client, policy())
        box = client.topics.appliance_telemetry(settings.appliance_id)

        def has_been_charged() -> bool:
            for _ in range(20):
                client.infer("gate", npy())
            told: dict[str, float] = telemetry(service, client, box)["energy"]
            return told["tenants_j"] > 0.0

        wait_until(has_been_charged)
        answer = result(client.infer("gate", npy()))
        told = telemetry(service, client, box)
        tenant = telemetry(service, client, client.topics.telemetry("gate", settings.appliance_id))

    assert answer.energy_source == "calibrated"
    assert (told["meter"], told["power"]["total_of"]) == ("tegrastats", ["VDD_IN"])
    assert set(told["power"]["rails_w"]) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert told["power"]["temperatures_c"]["tj"] == 56.343
    energy = told["energy"]
    parts_j = energy["tenants_j"] + energy["idle_j"] + energy["unattributed_j"]
    assert parts_j == pytest.approx(energy["integrated_j"], abs=5e-6)
    assert tenant["spent_mj"] >= 0.0
    with Reader(settings.database) as reader:
        hours = reader.ledger(period_s=HOUR_S)
        whole = {row.account: row for row in reader.ledger(period_s=ALWAYS_S)}
    assert set(whole) == {"gate", "$idle", "$unattributed"}
    assert whole["gate"].reported_j == pytest.approx(logged_j(settings), rel=1e-9)
    assert whole["gate"].measured_j >= energy["tenants_j"] - 1e-6
    hourly_j = sum(row.measured_j for row in hours if row.account == "gate")
    assert hourly_j == pytest.approx(whole["gate"].measured_j)


def test_a_meter_that_dies_costs_no_request_and_comes_back(
    broker: Mosquitto, tmp_path: Path
) -> None:
    dead = tmp_path / "dead"
    tegrastats = shlex.join(["sh", "-c", UNLESS, str(dead), *shlex.split(STAND_IN)])
    settings = gate_settings(broker, tmp_path, meter="tegrastats", tegrastats=tegrastats)

    with serving(settings) as service, client_of(settings) as client:
        push(client, policy(rest="exit_when: exit >= 0\n"))
        box = client.topics.appliance_telemetry(settings.appliance_id)
        wait_until(lambda: telemetry(service, client, box)["meter"] == "tegrastats")
        (child,) = stand_ins()
        dead.touch()
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: telemetry(service, client, box)["power"]["failure"] is not None)
        stalled = telemetry(service, client, box)
        answer = result(client.infer("gate", npy()))
        dead.unlink()
        wait_until(lambda: telemetry(service, client, box)["meter"] == "tegrastats")

    assert stalled["meter"] == "modelled"
    assert (answer.energy_source, answer.energy_mj) == ("modelled", 10.0)
    assert stand_ins() == []


def test_a_spent_budget_degrades_to_the_first_exit(broker: Mosquitto, tmp_path: Path) -> None:
    settings = gate_settings(broker, tmp_path)

    with serving(settings) as service, client_of(settings) as client:
        # The last exit costs 100 mJ, the first one 10 mJ.
        push(client, policy(rest="budget: {energy: 250mJ, per: 1h}\n"))
        answers = [result(client.infer("gate", npy())) for _ in range(6)]
        topic = client.topics.telemetry("gate", settings.appliance_id)
        told = telemetry(service, client, topic)["budget"]

    assert [answer.exit for answer in answers] == [3, 3, 1, 0, 0, 0]
    assert {answer.stopped_by for answer in answers[2:]} == {"budget"}
    assert told["energy_j"] == 0.25
    assert told["remaining"] == 0.0
    assert told["ends_in_s"] <= 3600.0


def test_a_spent_budget_rejects_and_says_when_there_is_energy_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path)
    rest = "budget: {energy: 205mJ, per: 1h, exhausted: reject}\n"

    with serving(settings), client_of(settings) as client:
        push(client, policy(rest=rest))
        exits = [result(client.infer("gate", npy())).exit for _ in range(2)]
        refused = rejection(client.infer("gate", npy()))
    with serving(settings), client_of(settings) as client:
        after_a_restart = rejection(client.infer("gate", npy()))

    assert exits == [3, 3]
    assert (refused.code, refused.policy_version) == (429, 1)
    assert "the budget of 205 mJ per 1 h is spent" in refused.detail
    assert refused.retry_at is not None
    moment_s = datetime.fromisoformat(refused.retry_at).timestamp()
    assert 3500 < moment_s - time.time() <= 3600
    assert after_a_restart.code == 429


def test_a_budget_that_runs_low_brings_the_policy_s_mode(broker: Mosquitto, tmp_path: Path) -> None:
    settings = gate_settings(broker, tmp_path)
    rest = """
budget: {energy: 1J, per: 1h}
modes: {saver: {exit_when: exit >= 1}}
adapt: [{use: saver, when: budget_remaining < 50%}]
"""

    def in_saver() -> bool:
        return result(client.infer("gate", npy())).mode == "saver"

    with serving(settings) as service, client_of(settings) as client:
        state = push(client, policy(rest=rest))
        first = result(client.infer("gate", npy()))
        wait_until(in_saver)
        later = result(client.infer("gate", npy()))
        told = telemetry(service, client, client.topics.telemetry("gate", settings.appliance_id))

    assert state.version is not None
    assert (first.mode, first.exit) == (None, 3)
    assert (later.mode, later.stopped_by) in {("saver", "condition"), ("saver", "budget")}
    assert told["mode"] == "saver"


def test_a_device_budget_comes_by_command_and_outlasts_a_restart(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path)

    def send(client: Session, command: bytes) -> None:
        client.publish(client.topics.appliance_command(settings.appliance_id), command)

    def told(service: Service, client: Session) -> dict[str, Any]:
        return telemetry(service, client, client.topics.appliance_telemetry(settings.appliance_id))

    with serving(settings) as service, client_of(settings) as client:
        push(client, policy())
        send(client, b'{"device_budget": "105mJ per 1h"}')
        wait_until(lambda: told(service, client)["device_budget"] is not None)
        set_to = told(service, client)
        send(client, b'{"device_budget": "lots"}')
        wait_until(lambda: told(service, client)["command_failure"] is not None)
        wrong = told(service, client)
        exits = [result(client.infer("gate", npy())).exit for _ in range(2)]
    with serving(settings) as service, client_of(settings) as client:
        restarted = result(client.infer("gate", npy())).exit
        send(client, b'{"device_budget": null}')
        wait_until(lambda: told(service, client)["device_budget"] is None)
        free = result(client.infer("gate", npy())).exit

    assert set_to["device_budget"]["energy_j"] == 0.105
    assert "lots" in wrong["command_failure"]
    assert wrong["device_budget"]["energy_j"] == 0.105
    assert exits == [3, 0]
    assert restarted == 0
    assert free == 3


def test_a_killed_appliance_loses_nothing_of_the_ledger_that_was_written_as_it_ran(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path)

    with ApplianceProcess(settings) as process:
        process.start()
        with client_of(settings) as client:
            push(client, policy(rest="budget: {energy: 100J, per: 1h}\n"))
            for _ in range(20):
                result(client.infer("gate", npy()))
        with Reader(settings.database) as reader:
            wait_until(
                lambda: sum(row.modelled_j for row in reader.ledger(period_s=ALWAYS_S)) > 1.99
            )
        process.kill()

    with Reader(settings.database) as reader:
        (row,) = reader.ledger(period_s=ALWAYS_S)
        (budget,) = reader.budgets()
    assert row.account == "gate"
    assert row.modelled_j == pytest.approx(2.0)
    assert row.reported_j == pytest.approx(logged_j(settings), rel=1e-9)
    assert budget.spent_j == pytest.approx(2.0)


def test_no_stand_in_is_left_when_its_appliance_was_killed(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path, meter="tegrastats", tegrastats=STAND_IN)

    with ApplianceProcess(settings) as process:
        process.start()
        wait_until(lambda: len(stand_ins()) == 1)
        (child,) = stand_ins()
        process.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
