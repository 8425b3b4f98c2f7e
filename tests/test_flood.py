"""Floods against the real appliance and broker: what is sent, what is logged, what is held."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from appliance.broker import Mosquitto
from appliance.errors import Code
from appliance.gateway import Gateway
from appliance.messages import REPLY, Rejection, Result
from appliance.outgoing import MAX_UNSENT_BYTES
from appliance.reader import Reader
from appliance.service import Service
from appliance.session import Session
from appliance.settings import Settings
from appliance.state_quota import BURST, RATE_PER_S
from appliance.topics import RESERVED, Topics
from tests.appliances import (
    WAIT_S,
    ApplianceProcess,
    Watch,
    address,
    client_of,
    push,
    serving,
)
from tests.conftest import StartBroker
from tests.gate import POLICY, gate_settings, npy
from tests.raw_mqtt import RawClient, publish
from tests.test_protocol_abuse import code_of
from tests.waiting import wait_until

MEGABYTE = 1_000_000

PATIENT_POLICY = POLICY.replace("version: 1", "version: 2") + "queue: {limit: 1000}"


@contextmanager
def appliance_of(settings: Settings) -> Iterator[tuple[Service, Session]]:
    with serving(settings) as service, client_of(settings) as client:
        push(client, POLICY)
        yield service, client


@contextmanager
def raw_client(settings: Settings) -> Iterator[RawClient]:
    name = uuid.uuid4().hex
    with RawClient(settings.mqtt_host, settings.mqtt_port, client_id=name) as client:
        yield client


def logged_rejections(settings: Settings, tenant: str) -> int:
    """How many rejections the log knows of, those among them that were only counted."""
    with Reader(settings.database) as reader:
        replies = [reply for reply in reader.inferences() if reply.tenant == tenant]
    counts = [
        re.match(r"(\d+) rejections of this code were not sent", reply.detail)
        for reply in replies
        if isinstance(reply, Rejection)
    ]
    return sum(1 if count is None else int(count[1]) for count in counts)


def test_a_request_beyond_its_policys_rate_is_told_when_to_come_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with appliance_of(gate_settings(broker, tmp_path)) as (_, client):
        push(client, POLICY.replace("version: 1", "version: 2") + "limits: {rate: 1/h}")
        first = client.infer("gate", npy())
        second = client.infer("gate", b"not even a frame")

    assert isinstance(first, Result)
    assert isinstance(second, Rejection)
    assert second.code == Code.TOO_MANY
    assert re.search(r"retry in \d+ ms", second.detail)


def test_rejections_beyond_the_quota_are_counted_and_acknowledged_but_not_sent(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path, rejection_rate="10/h")
    flood = 300

    with appliance_of(settings) as (service, client), raw_client(settings) as raw:
        topic = client.topics
        results = Watch(client, topic.result("gate", "flood"))
        telemetry = Watch(client, topic.telemetry("gate", settings.appliance_id))
        for number in range(1, flood + 1):
            raw.send(publish(topic.request("gate", "flood"), b"?", qos=1, packet_id=number))
        wait_until(lambda: logged_rejections(settings, "gate") == flood)
        wait_until(lambda: service.open_deliveries() == 0)
        # Counted once the row is heard to be in the log, a moment after it can be read there.
        wait_until(lambda: service.survey.take().tallies["gate"].rejections.total() == flood)
        service.tell()
        told = json.loads(telemetry.next()[1])
        answer = client.infer("gate", npy())

        assert isinstance(answer, Result)
        assert REPLY.validate_json(results.next()[1]).status == "rejected"
        assert results.is_silent()
        assert told["muted"] == flood - 1
        assert told["rejected"] == told["rejections"]["415"] == flood


def test_ten_thousand_made_up_tenants_are_one_to_the_appliance(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path, rejection_rate="20/s")
    made_up = 10_000

    with ApplianceProcess(settings) as appliance, client_of(settings) as client:
        appliance.start()
        push(client, POLICY)
        before = memory_bytes(appliance)
        with raw_client(settings) as raw:
            for number in range(made_up):
                raw.send(publish(client.topics.request(f"tenant-{number}"), b"?" * 100))
            answer = client.infer("gate", npy(), timeout_s=WAIT_S)
        grown = memory_bytes(appliance) - before

        assert isinstance(answer, Result)
        wait_until(lambda: logged_rejections(settings, RESERVED) > 0)
        with Reader(settings.database) as reader:
            assert sum(1 for _ in reader.inferences()) < made_up / 10
        assert grown < 40 * MEGABYTE


def slow_to_decode() -> bytes:
    """A frame of nearly 10 MB: noise, which takes longer to decode than to send."""
    noise = np.random.default_rng(1).integers(0, 256, (1780, 1780, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def memory_bytes(appliance: ApplianceProcess) -> int:
    return int(psutil.Process(appliance.pid).memory_info().rss)


def most_memory_bytes(appliance: ApplianceProcess) -> int:
    """The most that it ever took."""
    status = Path(f"/proc/{appliance.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return int(peak[1]) * 1024


def test_a_flood_of_the_largest_frames_is_held_within_the_frame_memory(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path, frame_memory="40MB", max_frame="10MB")
    frame, flood = slow_to_decode(), 30

    with ApplianceProcess(settings) as appliance, client_of(settings) as client:
        appliance.start()
        push(client, POLICY)
        before = memory_bytes(appliance)
        replies = Watch(client, client.topics.result("gate"))
        with raw_client(settings) as raw:
            for number in range(1, flood + 1):
                raw.send(publish(client.topics.request("gate"), frame, qos=1, packet_id=number))
            codes = [code_of(REPLY.validate_json(replies.next()[1])) for _ in range(flood)]
        answer = client.infer("gate", npy())

        assert isinstance(answer, Result)
        assert set(codes) <= {None, Code.TOO_MANY}
        # What is counted, the packet that comes in and its copy, and what is being decoded.
        assert most_memory_bytes(appliance) - before < (40 + 120) * MEGABYTE


def test_a_broker_that_does_not_read_loses_readings_and_is_served_when_it_does(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    gateway = a_gateway(broker)
    gateway.open()
    assert gateway.connected.wait(WAIT_S)
    reading = bytes(100_000)

    with standing_still(broker):
        for _ in range(3 * MAX_UNSENT_BYTES // len(reading)):
            gateway.publish_telemetry("readings", reading)
        unsent = gateway.unsent

    assert unsent > 0
    wait_until(lambda: is_taken(gateway, reading))
    gateway.close()


def test_a_broker_that_stands_still_for_a_while_costs_no_answer(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker()
    requests = 60

    with appliance_of(gate_settings(broker, tmp_path)) as (service, client):
        push(client, PATIENT_POLICY)
        replies = [client.submit("gate", npy()) for _ in range(requests // 2)]
        with standing_still(broker):
            replies += [client.submit("gate", npy()) for _ in range(requests // 2)]
            for _ in range(50):
                service.tell()
        answers = [reply.result(WAIT_S) for reply in replies]
        wait_until(lambda: service.open_deliveries() == 0)

    assert {type(answer) for answer in answers} == {Result}


def test_of_a_flood_of_pushes_the_last_is_answered_and_the_states_are_few(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings, pushes = gate_settings(broker, tmp_path), 400
    with appliance_of(settings) as (service, client):
        # As `push` has it: a broker sends what two subscriptions meet twice.
        states = Watch(client, client.topics.policy_state("gate", "+"))
        states.next()
        started_s = time.monotonic()
        for number in range(pushes):
            client.publish(client.topics.policy_set("gate"), f"no policy {number}".encode())
        client.publish(client.topics.policy_set("gate"), b"version: 2\nengine: nowhere\n")
        told = 1
        while b"nowhere" not in states.next()[1]:
            told += 1
        took_s = time.monotonic() - started_s
        wait_until(lambda: service.open_deliveries() == 0)

    assert told <= BURST + RATE_PER_S * (took_s + 0.5)


@contextmanager
def standing_still(broker: Mosquitto) -> Iterator[None]:
    """The broker neither reads nor writes, and its connections stay."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def is_taken(gateway: Gateway, reading: bytes) -> bool:
    """Whether a reading finds room again."""
    unsent = gateway.unsent
    gateway.publish_telemetry("readings", reading)
    return gateway.unsent == unsent


def a_gateway(broker: Mosquitto) -> Gateway:
    return Gateway(
        broker=address(broker),
        topics=Topics(f"test/{uuid.uuid4().hex[:8]}"),
        appliance="box",
        on_request=lambda _arrival: None,
        on_policy=lambda _push: None,
        on_command=lambda _push: None,
        clock=time.monotonic,
        wall_clock=time.time,
        max_frame_bytes=MEGABYTE,
        receive_maximum=64,
        session_expiry_s=60,
        cloud_events=False,
    )
