"""Home Assistant: what it discovers, what it shows, and that it forgets who is gone."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from appliance.broker import Mosquitto
from appliance.homeassistant import announcer as announcing
from appliance.homeassistant.announced import AnnouncedFile
from appliance.homeassistant.announcer import EVERY_S, LONGEST_DELAY_S, SETTLE_S, Announcer
from appliance.homeassistant.discovery import Discovery, identifier
from appliance.messages import Reply
from appliance.serving import serve
from appliance.session import Session
from appliance.settings import Settings
from appliance.telemetry import (
    APPLIANCE_TELEMETRY,
    TENANT_TELEMETRY,
    ApplianceTelemetry,
    EnergyTelemetry,
    PowerTelemetry,
)
from appliance.topics import Topics, level_fault
from appliance.windows import TenantAccount, Window
from tests.appliances import Watch, client_of, push, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.homeassistant import HomeAssistant
from tests.test_telemetry import BALANCE, REJECTION, RESULT
from tests.waiting import wait_until

TOPICS = Topics("delen/v1")
NAMES = st.text(min_size=1).filter(lambda name: level_fault(name) is None)


def discovery(appliance: str = "box") -> Discovery:
    return Discovery(prefix="homeassistant", topics=TOPICS, appliance=appliance, expire_after_s=60)


def told(*tenants: str, appliance: str = "box") -> HomeAssistant:
    """A Home Assistant that has the documents, and the appliance as online."""
    home = HomeAssistant()
    for topic, document in discovery(appliance).documents(tenants).items():
        home.receive(topic, document)
    home.receive(TOPICS.appliance_status(appliance), b"online")
    return home


def tenant_says(
    home: HomeAssistant, *replies: Reply, tenant: str = "gate", **account: object
) -> None:
    window = Window()
    for reply in replies:
        window.take_in(reply)
    known = TenantAccount(spent_j=0.0, charged_j=0.0, own=None, of_device=None, mode=None)
    telemetry = window.telemetry(
        tenant,
        appliance="box",
        window_s=10.0,
        account=dataclasses.replace(known, **account),  # type: ignore[arg-type]
        queue_length=0,
    )
    home.receive(TOPICS.telemetry(tenant, "box"), TENANT_TELEMETRY.dump_json(telemetry))


def appliance_says(home: HomeAssistant, power: PowerTelemetry, **fields: object) -> None:
    telemetry = ApplianceTelemetry(
        appliance="box",
        window_s=10.0,
        uptime_s=100.0,
        engines=("digits",),
        backends={"digits": "onnx"},
        out_of_service={},
        meter=power.meter,
        power=power,
        energy=EnergyTelemetry(
            tenants_j=1.0, idle_j=2.0, unattributed_j=0.0, integrated_j=7200.0, modelled_j=0.0
        ),
        device_budget=None,
        command_failure=None,
        queue_length=4,
        unlogged=0,
        unsent=0,
        frame_bytes=0,
        strangers=0,
        log_failure=None,
        database_mishap=None,
        tenants={},
    )
    telemetry = dataclasses.replace(telemetry, **fields)  # type: ignore[arg-type]
    home.receive(TOPICS.appliance_telemetry("box"), APPLIANCE_TELEMETRY.dump_json(telemetry))


POWER = PowerTelemetry(
    meter="tegrastats", failure=None, power_w=7.25, temperatures_c={"cpu": 51.5, "gpu": 49.0}
)
NO_POWER = PowerTelemetry(meter="modelled", failure="no meter here")


def shown(home: HomeAssistant, device: str) -> dict[str, str | None]:
    return {
        entity.options["name"]: entity.state
        for entity in home.entities.values()
        if entity.device["name"] == device
    }


def test_a_tenant_is_a_device_that_shows_what_its_telemetry_says() -> None:
    home = told("gate")

    tenant_says(home, RESULT, REJECTION, charged_j=1800.0, own=BALANCE)

    assert shown(home, "gate on box") == {
        "Requests": "0.2",
        "Response time p95": "10.0",
        "Last answer": "x",
        "Energy": "0.5",
        "Budget left": "25.0",
        "Rejections": "6.0",
    }


def test_what_is_not_known_is_unknown_and_the_last_answer_stays() -> None:
    home = told("gate")

    tenant_says(home, RESULT)
    tenant_says(home)

    assert shown(home, "gate on box") == {
        "Requests": "0.0",
        "Response time p95": None,
        "Last answer": "x",
        "Energy": "0.0",
        "Budget left": None,
        "Rejections": "0.0",
    }


def test_the_appliance_shows_its_power_and_energy() -> None:
    home = told()

    appliance_says(home, POWER, log_failure="the disk is full")

    assert shown(home, "Dělen box") == {
        "Power": "7.25",
        "Energy": "0.002",
        "Temperature": "51.5",
        "Queue": "4",
        "Log": "ON",
        "Engines": "OFF",
        "Meter": "tegrastats",
    }


def test_without_a_meter_power_is_unknown() -> None:
    home = told()

    appliance_says(home, NO_POWER, out_of_service={"digits": "it failed"})

    states = shown(home, "Dělen box")
    assert (states["Power"], states["Temperature"]) == (None, None)
    assert (states["Engines"], states["Meter"]) == ("ON", "modelled")


@pytest.mark.parametrize(("device", "name"), [("Dělen box", "Energy"), ("gate on box", "Energy")])
def test_energy_has_the_classes_that_the_energy_dashboard_asks_for(device: str, name: str) -> None:
    options = told("gate").entity(device, name).options

    assert (options["device_class"], options["state_class"]) == ("energy", "total_increasing")
    assert options["unit_of_measurement"] in ("Wh", "kWh")


@pytest.mark.parametrize(
    ("status", "available"), [(b"online", True), (b"offline", False), (b"stopped", False)]
)
def test_nothing_is_available_but_while_the_appliance_is_online(
    status: bytes,
    available: bool,  # noqa: FBT001
) -> None:
    home = told("gate")

    home.receive(TOPICS.appliance_status("box"), status)

    assert {entity.available for entity in home.entities.values()} == {available}


HOSTILE = [
    "{{ 7 * 7 }}",
    "{% raw %}",
    "~",
    "a~",
    '"}',
    "a b",
    "b\u0301",
    "ö",
    "_",
    "__",
    "a__b",
    "None",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_or_label_is_shown_as_it_is(text: str) -> None:
    home = told(text)

    tenant_says(home, dataclasses.replace(RESULT, tenant=text, label=f"<{text}>"), tenant=text)

    assert home.devices() == {"Dělen box", f"{text} on box"}
    assert home.entity(f"{text} on box", "Last answer").state == f"<{text}>"


def test_a_label_is_cut_to_what_a_state_holds() -> None:
    home = told("gate")

    tenant_says(home, dataclasses.replace(RESULT, label="š" * 5000))

    assert home.entity("gate on box", "Last answer").state == "š" * 100


@settings_of_hypothesis(max_examples=30, deadline=None)
@given(st.lists(NAMES, unique=True, max_size=8), NAMES)
def test_every_tenant_is_a_device_of_its_own(tenants: list[str], appliance: str) -> None:
    documents = discovery(appliance).documents(tenants)

    home = told(*tenants, appliance=appliance)

    assert len(documents) == len(tenants) + 1
    assert home.documents == documents


@settings_of_hypothesis(deadline=None)
@given(NAMES, NAMES, NAMES, NAMES)
def test_two_names_never_share_an_identifier(a: str, b: str, c: str, d: str) -> None:
    assert (identifier(a, b) == identifier(c, d)) == ((a, b) == (c, d))
    assert identifier(a) != identifier(c, d)


# What is told when.


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0


def all_told(
    announcer: Announcer, clock: Clock, wanted: dict[str, bytes]
) -> list[tuple[str, bytes]]:
    """What is told in the next minute, asked ten times a second."""
    said = []
    for _ in range(600):
        clock.now_s += 0.1
        announcement = announcer.next(clock.now_s, wanted)
        if announcement is not None:
            said.append((announcement.topic, announcement.document))
    return said


def test_documents_are_told_once_and_one_at_a_time() -> None:
    clock, announcer = Clock(), Announcer(announced=(), random=random.Random(0))
    wanted = {f"t{number}": b"d" for number in range(5)}

    first = announcer.next(clock.now_s, wanted)
    too_early = announcer.next(clock.now_s + 0.9 * EVERY_S, wanted)
    rest = all_told(announcer, clock, wanted)

    assert first is not None
    assert too_early is None
    assert [first.topic, *(topic for topic, _ in rest)] == list(wanted)


def test_who_is_gone_is_taken_back_first_also_one_of_an_earlier_run() -> None:
    clock, announcer = Clock(), Announcer(announced=("old", "a"), random=random.Random(0))

    said = all_told(announcer, clock, {"a": b"1", "b": b"2"})
    changed = all_told(announcer, clock, {"b": b"3"})

    assert said == [("old", b""), ("a", b"1"), ("b", b"2")]
    assert changed == [("a", b""), ("b", b"3")]


def test_a_birth_has_all_told_anew_after_a_random_moment() -> None:
    delays = set()
    for seed in range(20):
        clock, announcer = Clock(), Announcer(announced=(), random=random.Random(seed))
        all_told(announcer, clock, {"a": b"1"})

        announcer.born(clock.now_s)
        born_s = clock.now_s
        while announcer.next(clock.now_s, {"a": b"1"}) is None:
            clock.now_s += 0.1
        delays.add(round(clock.now_s - born_s, 1))

    assert len(delays) > 5
    assert max(delays) <= LONGEST_DELAY_S + 0.1


def test_states_are_told_once_the_last_document_is_taken_up() -> None:
    announcer, wanted = Announcer(announced=(), random=random.Random(0)), {"a": b"1", "b": b"2"}

    moments = [
        second
        for second in range(20)
        for _ in [announcer.next(second, wanted)]
        if announcer.has_settled(second, wanted)
    ]

    assert moments == [1 + SETTLE_S]


def test_what_was_announced_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "announced"
    file = AnnouncedFile(path)
    file.add("a")
    file.add("b")
    file.remove("a")

    again = AnnouncedFile(path)

    assert again.topics == {"b"}
    again.remove("b")
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_file_that_cannot_be_read_costs_no_start(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "announced").write_bytes(content)

    assert AnnouncedFile(tmp_path / "announced").topics == set()


# With a real broker.


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVERY_S", "LONGEST_DELAY_S", "SETTLE_S"):
        monkeypatch.setattr(announcing, name, 0.01)
    monkeypatch.setattr("appliance.serving.EVERY_S", 0.02)


@contextmanager
def appliance(settings: Settings, client: Session) -> Iterator[None]:
    """`delen serve` in a thread, online."""
    status = Watch(client, client.topics.appliance_status(settings.appliance_id))
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, stop))
    thread.start()
    try:
        while status.next()[1] != b"online":
            pass
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("hurried")
def test_devices_come_with_policies_and_go_with_them_and_with_the_setting(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path, homeassistant=True)
    box, gate = f"Dělen {settings.appliance_id}", f"gate on {settings.appliance_id}"
    home = HomeAssistant()

    with client_of(settings) as client:
        own = f"homeassistant/device/{identifier(settings.appliance_id)}"
        for topic_filter in (
            f"{own}/config",
            f"{own}__gate/config",
            client.topics.appliance_status("+"),
            client.topics.appliance_telemetry("+"),
            client.topics.telemetry("gate", "+"),
        ):
            client.watch(topic_filter, lambda topic, payload, _: home.receive(topic, payload))
        with appliance(settings, client):
            push(client, POLICY)
            wait_until(lambda: home.devices() == {box, gate})
            client.infer("gate", npy())
            client.publish("homeassistant/status", b"online")
            wait_until(lambda: home.entity(gate, "Last answer").state is not None)
            client.publish(client.topics.policy_set("gate"), b"")
            wait_until(lambda: home.devices() == {box})
        off = settings.model_copy(update={"homeassistant": False})
        with appliance(off, client):
            wait_until(lambda: home.devices() == set())
            wait_until(lambda: not announced_at(settings).exists())


def announced_at(settings: Settings) -> Path:
    return settings.database.with_name(f"{settings.database.name}.homeassistant")


def test_by_default_nothing_is_announced(broker: Mosquitto, tmp_path: Path) -> None:
    settings = settings_for(broker, tmp_path)

    with client_of(settings) as client:
        seen = Watch(client, f"homeassistant/device/{identifier(settings.appliance_id)}/config")
        with appliance(settings, client):
            pass
        client.publish(f"homeassistant/device/{identifier(settings.appliance_id)}/config", b"end")

        assert seen.next()[1] == b"end"


def test_documents_are_valid_json_of_some_kilobytes() -> None:
    documents = discovery().documents(["gate"])

    for payload in documents.values():
        assert json.loads(payload)
        assert len(payload) < 2500
