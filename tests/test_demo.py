"""`delen demo`: a run of it, and what its parts promise."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from appliance import manifest
from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.demo import dashboard as dashboard_module
from appliance.demo.child import Appliance
from appliance.demo.dashboard import Dashboard
from appliance.demo.fleet import FleetManager
from appliance.demo.policies import DemoPolicy, Pace, demo_policies, rehearsals
from appliance.demo.scene import TENANTS, acl
from appliance.demo.sensor import frames_of
from appliance.demo.tally import TenantTally
from appliance.engine import Engine
from appliance.errors import BrokerError, EngineError, ServiceError
from appliance.plan import compile_plan
from appliance.policy import parse_policy
from appliance.session import Session
from tests.appliances import WAIT_S
from tests.conftest import StartBroker
from tests.engines import tiny_engine
from tests.stores import REJECTION, RESULT, result

PACE = Pace(shallow_p99_s=0.006, deepest_p50_s=0.0101, deepest_p99_s=0.014, deepest_j=0.2)

COMMAND = "import typer; from appliance.cli import demo; a = typer.Typer(); demo.register(a); a()"


def engine_with_frames(folder: Path) -> Path:
    tiny_engine(folder)
    for label, brightness in (("dark", 40), ("bright", 220)):
        for number in range(4):
            path = folder / "frames" / label / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), brightness + number).save(path)
    return folder


def engine(folder: Path, accuracies: Sequence[float | None] = (0.5, 0.7, 0.8, 0.9)) -> Engine:
    return manifest.load(tiny_engine(folder / "tiny", accuracies=accuracies))


def delen_demo(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command in a process of its own, whose temporary files come to lie in `folder`."""
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *options],
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "DELEN_MQTT_HOST": "not.to.be.used"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    """What one short run printed."""
    tiny = engine_with_frames(folder / "engines" / "tiny")
    options = ("--engine", str(tiny), "--seconds", "4", "--picture", str(folder / "demo.svg"))

    process = delen_demo(folder, *options, "--json")
    output, complaints = process.communicate(timeout=WAIT_S)

    assert process.returncode == 0, complaints
    summary: dict[str, Any] = json.loads(output)
    return summary


def test_every_tenant_gets_an_answer_to_every_frame(summary: dict[str, Any]) -> None:
    assert set(summary) == set(TENANTS)
    for tenant in summary.values():
        assert tenant["answered"] + tenant["rejected"] == tenant["sent"] > 10
        assert tenant["answered"] > 0.5 * tenant["sent"]
        assert sum(tenant["exits"].values()) == tenant["answered"]
        assert 0 < tenant["p50_ms"] <= tenant["p99_ms"]
        assert tenant["energy_j"] > 0


def test_the_exits_shift_where_the_policies_change(summary: dict[str, Any]) -> None:
    def exits_taken(tenant: str, version: str) -> set[str]:
        exits = summary[tenant]["versions"][version]["exits"]
        return {exit_ for exit_, count in exits.items() if count}

    assert exits_taken("meter", "1") == {"1"}
    assert exits_taken("meter", "2") == {"3"}
    assert "3" not in exits_taken("garden", "1")
    assert {"0", "3"} <= exits_taken("garden", "2")


def test_accuracy_floors_are_kept_by_every_answer(summary: dict[str, Any]) -> None:
    assert summary["meter"]["bound_kept"] == 1.0


def test_the_gardens_budget_runs_out_and_it_degrades(summary: dict[str, Any]) -> None:
    garden = summary["garden"]

    assert garden["ran_out_s"] > 2.0
    assert garden["versions"]["2"]["over_budget"] > 0
    assert all(tenant["energy_j"] > 0.0 for tenant in summary.values())


@pytest.mark.usefixtures("summary")
def test_the_picture_shows_the_table_and_loads_nothing_from_elsewhere(folder: Path) -> None:
    picture = (folder / "demo.svg").read_text()

    assert all(tenant in picture for tenant in TENANTS)
    assert "url(" not in picture.replace("url(#", "")


@pytest.mark.usefixtures("summary")
def test_nothing_of_it_stays_behind(folder: Path) -> None:
    assert list((folder / "tmp").glob("delen*")) == []


def test_ctrl_c_ends_it_with_a_summary_and_no_children(tmp_path: Path) -> None:
    tiny = engine_with_frames(tmp_path / "engines" / "tiny")
    answered: set[str] = set()
    begin = ""
    with ending(delen_demo(tmp_path, "--engine", str(tiny), "--seconds", "60")) as process:
        assert process.stdout is not None
        while answered < set(TENANTS):
            begin += (line := process.stdout.readline())
            shown = re.search(r" (\w+) +v\d.* ([1-9]\d*) answers", line)
            answered |= set() if shown is None else {shown[1]}
        children = psutil.Process(process.pid).children(recursive=True)
        address = re.search(r"Dashboard: (http://127\.0\.0\.1:\d+)", begin)
        assert address is not None, begin
        page = httpx.get(f"{address[1]}/tenant/demo/gate", trust_env=False).text

        process.send_signal(signal.SIGINT)
        output, complaints = process.communicate(timeout=WAIT_S)

    assert process.returncode == 0, complaints
    assert "of 60 s" in output
    assert "tenant, policy in force" in output
    assert "Bounds kept" in page
    assert len(children) == 4  # broker, appliance, the stand-in for its meter, dashboard
    assert not any(child.is_running() for child in children)


def test_a_dashboard_whose_port_another_program_takes_first_listens_on_another(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_port = dashboard_module._free_port  # noqa: SLF001
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = chain([taken], iter(find_port, None))
        monkeypatch.setattr(dashboard_module, "_free_port", lambda: next(ports))
        settings = {"MQTT_HOST": broker.host, "MQTT_PORT": str(broker.port)}

        with Dashboard(folder=tmp_path, settings=settings) as dashboard:
            address = dashboard.address_once_it_listens()
            assert address is not None
            page = httpx.get(address, trust_env=False).text

    assert address != f"http://127.0.0.1:{taken}"
    assert "Dělen" in page


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is told to end where a test fails, with all that it started."""
    with process:
        try:
            yield process
        finally:
            process.terminate()


def test_an_engine_without_frames_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no frames in it"):
        frames_of(engine(tmp_path))


def test_frames_carry_the_label_of_their_folder(tmp_path: Path) -> None:
    frames = frames_of(manifest.load(engine_with_frames(tmp_path / "tiny")))

    assert [frame.label for frame in frames] == ["bright"] * 4 + ["dark"] * 4


def test_the_gate_first_gets_the_time_of_the_whole_network_and_no_more(tmp_path: Path) -> None:
    gate, *_ = demo_policies(engine(tmp_path), PACE)

    assert gate.before.bound == pytest.approx(PACE.deepest_p50_s)
    assert gate.after.bound > 2 * PACE.deepest_p99_s


def test_on_a_busy_machine_the_gate_gets_the_time_that_a_shallow_exit_needs(
    tmp_path: Path,
) -> None:
    busy = replace(PACE, shallow_p99_s=0.0111)

    gate, *_ = demo_policies(engine(tmp_path), busy)

    assert gate.before.bound == pytest.approx(0.0111)


def test_the_gates_first_bound_bites_however_busy_the_machine_is(tmp_path: Path) -> None:
    very_busy = replace(PACE, shallow_p99_s=0.5)

    gate, *_ = demo_policies(engine(tmp_path), very_busy)

    assert gate.before.bound < 1.25 * PACE.deepest_p50_s


def test_the_meters_floor_rises_from_a_shallow_exit_to_the_best(tmp_path: Path) -> None:
    _, meter, _ = demo_policies(engine(tmp_path, (0.51234, 0.71239, 0.8, 0.91239)), PACE)

    assert (meter.before.bound, meter.after.bound) == (0.712, 0.912)


def test_an_exit_that_another_dominates_is_asked_of_nobody(tmp_path: Path) -> None:
    _, meter, _ = demo_policies(engine(tmp_path, (0.5, 0.7, 0.9, 0.89)), PACE)

    assert meter.after.bound == 0.9


def test_the_gardens_bound_lies_between_its_last_two_exits_as_they_are_measured(
    tmp_path: Path,
) -> None:
    *_, garden = demo_policies(engine(tmp_path), PACE)  # whose exits cost twice what it profiled

    assert 2 * 0.06 < garden.before.bound < 2 * 0.10


def test_the_gardens_budget_is_less_than_what_it_spent_before(tmp_path: Path) -> None:
    _, meter, garden = demo_policies(engine(tmp_path), PACE)

    assert garden.after_spending(10.0).after.bound == pytest.approx(4.0)
    assert meter.after_spending(10.0) == meter


def test_what_is_pushed_is_a_policy_that_fits_the_engine(tmp_path: Path) -> None:
    tiny = engine(tmp_path)

    for change in (rehearsals(tiny), *demo_policies(tiny, PACE)):
        for version, demo_policy in enumerate((change.before, change.after), start=1):
            policy = parse_policy(demo_policy.document(), tenant=change.tenant)
            assert policy.version == version
            assert compile_plan(policy, tiny).engine is tiny
            match demo_policy.metric:
                case "budget":
                    assert policy.budget is not None
                case bound:
                    assert getattr(policy.bounds, bound) == demo_policy.bound


def test_an_engine_of_one_exit_can_be_shown_too(tmp_path: Path) -> None:
    alone = manifest.load(
        tiny_engine(tmp_path / "tiny", accuracies=[0.9], energies_j=[0.01], latencies_s=[0.001])
    )

    _, meter, garden = demo_policies(alone, PACE)

    assert meter.before.bound == meter.after.bound == 0.9
    assert garden.after.bound > 0


def test_an_engine_without_accuracies_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no accuracy in its profile.*delen profile"):
        rehearsals(engine(tmp_path, (None, None, None, None)))


def test_a_policy_is_told_in_words_with_its_bound_and_unit() -> None:
    policy = DemoPolicy(
        tenant="gate", version=1, engine="tiny", metric="response_time", bound=0.0101
    )

    assert policy.words() == "response time ≤ 10.1 ms"


def test_a_tally_counts_what_is_right_and_what_keeps_its_bounds() -> None:
    tally = TenantTally(exits=8)

    tally.take(result(1), true_label=RESULT.label)
    tally.take(result(2), true_label="another")
    tally.take(REJECTION, true_label=RESULT.label)

    assert (tally.total.answered, tally.total.rejected) == (2, 1)
    assert tally.total.accuracy == 0.5
    assert tally.total.bound_kept == (0.0 if RESULT.unmet else 1.0)
    assert tally.version(RESULT.policy_version).answered == 2


def test_a_tally_of_nothing_has_no_figures() -> None:
    tally = TenantTally(exits=4).total

    assert (tally.accuracy, tally.bound_kept, tally.percentile_s(50)) == (None, None, None)


def test_no_sensor_may_speak_for_another_tenant(start_broker: StartBroker) -> None:
    passwords = {user: user for user in (*TENANTS, "demo")}
    broker = start_broker(users=passwords, acl=acl())
    heard: list[str] = []

    with _client(broker, "demo") as listener, _client(broker, "gate") as gate:
        listener.watch("delen/v1/#", lambda topic, *_: heard.append(topic))
        for topic in ("delen/v1/meter/request", "delen/v1/gate/policy/set"):
            with pytest.raises(BrokerError, match="Not authorized"):
                gate.publish(topic, b"forged")
        gate.publish("delen/v1/gate/request/demo", b"its own")
        # Its own messages come in order, so that a forged one would have come before this.
        listener.publish("delen/v1/end", b"")
        listener.watch("delen/v1/another", lambda *_: None)

    assert [topic for topic in heard if topic != "delen/v1/end"] == ["delen/v1/gate/request/demo"]


def test_an_appliance_that_cannot_start_is_reported_with_its_own_words(
    broker: Mosquitto, tmp_path: Path
) -> None:
    address = BrokerAddress(host=broker.host, port=broker.port)

    with (
        Appliance("demo", folder=tmp_path, settings={"MQTT_PORT": "a door"}) as appliance,
        Session(address, prefix="test/demo") as client,
        pytest.raises(ServiceError, match=r"(?s)exit code 1.*DELEN_MQTT_PORT"),
    ):
        FleetManager(client, appliance).wait_online()


def _client(broker: Mosquitto, user: str) -> Session:
    return Session(BrokerAddress(host=broker.host, port=broker.port, username=user, password=user))
