"""Several engines at once, end to end: loaded, unloaded, reloaded, failing and mended."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.broker import Mosquitto
from appliance.messages import POLICY_STATE, PolicyState, Rejection, Reply, Result
from appliance.service import Service
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import (
    WAIT_S,
    ApplianceProcess,
    Watch,
    client_of,
    push,
    serving,
    settings_for,
)
from tests.engines import tiny_engine
from tests.gate import npy
from tests.waiting import wait_until

DIM = npy()
BRIGHT = npy(np.ones((1, 8, 8), np.float32))
"""A frame at which an engine breaks that was made with `breaks_at=0.9`."""


def policy(tenant: str, engine: str, *, version: int = 1, rest: str = "") -> str:
    return f"tenant: {tenant}\nversion: {version}\nengine: {engine}\nexit_when: exit >= 0\n{rest}"


def answered(reply: Reply) -> Result:
    assert isinstance(reply, Result), reply
    return reply


def rejected(reply: Reply) -> Rejection:
    assert isinstance(reply, Rejection), reply
    return reply


class Fleet:
    """A running appliance with its client, and the two engines `one` and `two`."""

    def __init__(self, settings: Settings, service: Service, client: Session) -> None:
        self.settings = settings
        self.service = service
        self.client = client

    def give(self, tenant: str, engine: str, *, rest: str = "", version: int = 1) -> PolicyState:
        text = policy(tenant, engine, rest=rest, version=version)
        return push(self.client, text, tenant=tenant)

    def command(self, **command: Any) -> None:
        topic = self.client.topics.appliance_command(self.settings.appliance_id)
        self.client.publish(topic, json.dumps(command).encode())

    def telemetry(self) -> dict[str, Any]:
        topic = self.client.topics.appliance_telemetry(self.settings.appliance_id)
        watch = Watch(self.client, topic)
        self.service.tell()
        told: dict[str, Any] = json.loads(watch.next()[1])
        return told

    def states_of(self, tenant: str) -> States:
        return States(self.client, tenant)

    def break_it(self, tenant: str) -> str:
        """Has the tenant's engine fail until it is out of service; what its tenant is told."""
        states = self.states_of(tenant)
        failed = [rejected(self.client.infer(tenant, BRIGHT)).code]
        states.next()  # reloaded
        failed += [rejected(self.client.infer(tenant, BRIGHT)).code for _ in range(2)]
        assert failed == [500, 500, 500]
        sentence = states.next().out_of_service
        assert sentence is not None
        return sentence


class States:
    """What is told of a tenant's policy from now on."""

    def __init__(self, client: Session, tenant: str) -> None:
        self._watch = Watch(client, client.topics.policy_state(tenant, "+"))
        self._watch.next()  # what is retained

    def next(self) -> PolicyState:
        return POLICY_STATE.validate_json(self._watch.next()[1])


@contextmanager
def fleet_of(settings: Settings) -> Iterator[Fleet]:
    with serving(settings) as service, client_of(settings) as client:
        yield Fleet(settings, service, client)


@pytest.fixture
def settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    return settings_with(broker, tmp_path)


def settings_with(broker: Mosquitto, folder: Path, **overrides: object) -> Settings:
    tiny_engine(folder / "engines" / "one", breaks_at=0.9)
    tiny_engine(folder / "engines" / "two")
    return settings_for(broker, folder, **overrides)


@pytest.fixture
def fleet(settings: Settings) -> Iterator[Fleet]:
    """With the tenants `ada` on engine one and `bob` on engine two."""
    with fleet_of(settings) as fleet:
        fleet.give("ada", "one")
        fleet.give("bob", "two")
        yield fleet


def test_tenants_on_different_engines_are_served_side_by_side(fleet: Fleet) -> None:
    replies = [fleet.client.submit(tenant, DIM) for tenant in ("ada", "bob") * 20]

    engines = [answered(reply.result(WAIT_S)).engine for reply in replies]
    assert engines == ["one", "two"] * 20
    assert sorted(fleet.telemetry()["engines"]) == ["one", "two"]


def test_with_room_for_one_engine_they_take_turns_and_every_request_is_answered(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_with(broker, tmp_path, engine_memory="1kB")

    with fleet_of(settings) as fleet:
        fleet.give("ada", "one")
        fleet.give("bob", "two")
        in_turn = [answered(fleet.client.infer(t, DIM)).engine for t in ("ada", "bob", "ada")]
        at_once = [fleet.client.submit(tenant, DIM) for tenant in ("ada", "bob") * 10]
        engines = [answered(reply.result(WAIT_S)).engine for reply in at_once]
        open_now = fleet.telemetry()["engines"]

    assert in_turn == ["one", "two", "one"]
    assert engines == ["one", "two"] * 10
    assert len(open_now) == 1


def test_a_request_that_cannot_wait_for_its_engine_is_told_so_at_once(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_with(broker, tmp_path, engine_memory="1kB")

    with fleet_of(settings) as fleet:
        fleet.give("ada", "one", rest="bounds: {response_time: 1ms}")
        fleet.give("bob", "two")
        rejection = rejected(fleet.client.infer("ada", DIM))
        wait_until(lambda: fleet.telemetry()["engines"] == ["one"])

    assert rejection.code == 429
    assert "one is being opened" in rejection.detail
    assert "DELEN_ENGINE_MEMORY" in rejection.detail


def test_policies_of_several_engines_are_in_force_after_a_restart_with_room_for_one(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_with(broker, tmp_path, engine_memory="1kB")
    with fleet_of(settings) as fleet:
        fleet.give("ada", "one")
        fleet.give("bob", "two")

    with fleet_of(settings) as fleet:
        engines = [answered(fleet.client.infer(tenant, DIM)).engine for tenant in ("ada", "bob")]

    assert engines == ["one", "two"]


def test_a_reloaded_engine_is_the_one_on_disk_and_its_tenants_are_told(fleet: Fleet) -> None:
    states = fleet.states_of("ada")
    folder = fleet.settings.engines / "one"
    before = answered(fleet.client.infer("ada", DIM))
    shutil.rmtree(folder)
    tiny_engine(folder, accuracies=(0.25, 0.75))
    fleet.command(reload="one")
    state = states.next()
    after = answered(fleet.client.infer("ada", DIM))

    assert (before.accuracy, after.accuracy) == (0.5, 0.25)
    assert [outlook.accuracy for outlook in state.feasibility] == [0.25, 0.75]
    assert after.policy_version == 1


def test_no_request_is_lost_while_engines_are_reloaded(fleet: Fleet) -> None:
    states, stop = fleet.states_of("ada"), threading.Event()

    def reload_on_and_on() -> None:
        while not stop.wait(0.05):
            fleet.command(reload=["one", "two"])

    reloading = threading.Thread(target=reload_on_and_on)
    reloading.start()
    try:
        for _ in range(20):
            replies = [fleet.client.submit(tenant, DIM) for tenant in ("ada", "bob") * 15]
            engines = [answered(reply.result(WAIT_S)).engine for reply in replies]
            assert engines == ["one", "two"] * 15
    finally:
        stop.set()
        reloading.join()

    assert [states.next().out_of_service for _ in range(5)] == [None] * 5
    assert fleet.telemetry()["command_failure"] is None


def test_a_reload_of_a_broken_engine_leaves_the_one_before_in_service(fleet: Fleet) -> None:
    (fleet.settings.engines / "one" / "stage1.onnx").write_bytes(b"no network")
    fleet.command(reload="one")
    wait_until(lambda: fleet.telemetry()["command_failure"] is not None)
    failure = fleet.telemetry()["command_failure"]

    assert "stage1.onnx cannot be opened" in failure
    assert answered(fleet.client.infer("ada", DIM)).engine == "one"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ({"reload": "three"}, "no engine `three`"),
        ({"reload": 3}, "reload"),
        ({"drain": False}, "drain"),
        ({"restart": True}, "restart"),
        ({}, "says nothing"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_named_in_telemetry(
    fleet: Fleet, command: dict[str, Any], sentence: str
) -> None:
    fleet.command(**command)
    wait_until(lambda: fleet.telemetry()["command_failure"] is not None)

    assert sentence in fleet.telemetry()["command_failure"]


def test_a_policy_that_no_longer_fits_its_engine_is_told_and_serves_again_once_it_does(
    fleet: Fleet,
) -> None:
    conditions = ", ".join(["exit >= 0"] * 4)
    text = f"tenant: ada\nversion: 2\nengine: one\nexit_when: [{conditions}]\n"
    push(fleet.client, text, tenant="ada")
    states = fleet.states_of("ada")
    folder = fleet.settings.engines / "one"
    shutil.move(folder, fleet.settings.engines.parent / "kept")
    tiny_engine(folder, accuracies=(0.5, 0.7))
    fleet.command(reload="one")
    misfit = states.next()
    rejection = rejected(fleet.client.infer("ada", DIM))
    shutil.rmtree(folder)
    shutil.move(fleet.settings.engines.parent / "kept", folder)
    fleet.command(reload="one")
    mended = states.next()

    assert misfit.out_of_service is not None
    assert "4 conditions for the 2 exits of one" in misfit.out_of_service
    assert rejection.code == 404
    assert "does not fit the engine one" in rejection.detail
    assert (mended.out_of_service, mended.version) == (None, 2)
    assert answered(fleet.client.infer("ada", DIM)).policy_version == 2


def test_a_stage_that_raises_rejects_its_request_and_has_its_engine_reloaded(fleet: Fleet) -> None:
    states = fleet.states_of("ada")

    rejection = rejected(fleet.client.infer("ada", BRIGHT))
    reloaded = states.next()

    assert rejection.code == 500
    assert "stage 0 of one failed" in rejection.detail
    assert reloaded.out_of_service is None
    assert answered(fleet.client.infer("ada", DIM)).engine == "one"
    assert answered(fleet.client.infer("bob", BRIGHT)).engine == "two"


def test_an_engine_that_goes_on_failing_is_out_of_service_and_the_others_go_on(
    fleet: Fleet,
) -> None:
    fleet.give("cleo", "one")
    of_another = fleet.states_of("cleo")

    sentence = fleet.break_it("ada")
    of_another.next()  # reloaded
    rejection = rejected(fleet.client.infer("ada", DIM))
    told = fleet.telemetry()

    assert "failed 3 times within 60 s" in sentence
    assert '{"reload": "one"}' in sentence
    assert of_another.next().out_of_service == sentence
    assert (rejection.code, rejection.detail) == (500, sentence)
    assert told["out_of_service"] == {"one": sentence}
    assert told["engines"] == ["two"]
    assert answered(fleet.client.infer("bob", DIM)).engine == "two"


def test_a_reload_brings_an_engine_back_into_service(fleet: Fleet) -> None:
    fleet.break_it("ada")
    states = fleet.states_of("ada")

    fleet.command(reload="one")
    back = states.next()

    assert back.out_of_service is None
    assert answered(fleet.client.infer("ada", DIM)).engine == "one"
    assert fleet.telemetry()["out_of_service"] == {}


def test_a_push_of_the_same_policy_brings_an_engine_back_for_all_its_tenants(fleet: Fleet) -> None:
    fleet.give("cleo", "one")
    fleet.break_it("ada")

    state = fleet.give("ada", "one")

    assert (state.out_of_service, state.version) == (None, 1)
    assert answered(fleet.client.infer("ada", DIM)).engine == "one"
    assert answered(fleet.client.infer("cleo", DIM)).engine == "one"


def test_a_policy_for_an_engine_that_cannot_be_opened_is_refused_with_the_reason(
    fleet: Fleet,
) -> None:
    tiny_engine(fleet.settings.engines / "three")
    (fleet.settings.engines / "three" / "stage0.onnx").write_bytes(b"no network")

    state = fleet.give("ada", "three", version=2)

    assert state.version == 1
    assert state.last_rejection is not None
    assert "stage0.onnx cannot be opened" in state.last_rejection.detail
    assert answered(fleet.client.infer("ada", DIM)).engine == "one"


def test_a_policy_and_what_comes_right_behind_it_keep_their_order(fleet: Fleet) -> None:
    tiny_engine(fleet.settings.engines / "three")
    topic = fleet.client.topics.policy_set("ada")

    fleet.client.publish(topic, policy("ada", "three", version=2).encode())
    first = fleet.client.submit("ada", DIM)
    fleet.client.publish(topic, b"")
    second = fleet.client.submit("ada", DIM)

    assert answered(first.result(WAIT_S)).engine == "three"
    assert rejected(second.result(WAIT_S)).code == 404


def test_a_drained_appliance_answers_what_is_in_flight_and_ends(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_with(broker, tmp_path)

    with ApplianceProcess(settings) as process, client_of(settings) as client:
        process.start()
        push(client, policy("ada", "one"), tenant="ada")
        status = Watch(client, client.topics.appliance_status(settings.appliance_id))
        replies = [client.submit("ada", DIM) for _ in range(20)]
        client.publish(client.topics.appliance_command(settings.appliance_id), b'{"drain": true}')
        engines = {answered(reply.result(WAIT_S)).engine for reply in replies}
        told = [status.next()[1], status.next()[1]]
        exit_code = process.wait()

    assert engines == {"one"}
    assert told == [b"online", b"stopped"]
    assert exit_code == 0
