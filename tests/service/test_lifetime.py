"""An appliance that starts, stops and is killed, as others see it."""

from __future__ import annotations

import threading
from pathlib import Path
from queue import SimpleQueue

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from appliance.broker import Mosquitto
from appliance.reader import Reader
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import WAIT_S, ApplianceProcess, Watch, client_of, push, serving
from tests.gate import POLICY, gate_settings, npy


def test_the_status_tells_online_and_stopped(settings: Settings) -> None:
    with client_of(settings) as client:
        status = Watch(client, client.topics.appliance_status(settings.appliance_id))

        with serving(settings):
            online = status.next()[1]
        stopped = status.next()[1]

    assert (online, stopped) == (b"online", b"stopped")


def test_sigterm_ends_the_command_with_exit_code_0_and_sigkill_leaves_offline(
    settings: Settings,
) -> None:
    with client_of(settings) as client, ApplianceProcess(settings) as appliance:
        status = Watch(client, client.topics.appliance_status(settings.appliance_id))

        appliance.start()
        code = appliance.terminate()
        appliance.start()
        appliance.kill()

        assert code == 0
        seen = [status.next()[1] for _ in range(4)]
        assert seen == [b"online", b"stopped", b"online", b"offline"]


def test_sigkill_under_load_loses_no_request_and_logs_none_twice(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = gate_settings(broker, tmp_path)
    requests = 600
    answers: SimpleQueue[bytes] = SimpleQueue()
    with client_of(settings) as client, ApplianceProcess(settings) as appliance:
        appliance.start()
        push(client, POLICY.replace("exit_when: exit >= 0", "queue: {limit: 1000}"))
        client.watch(
            client.topics.result("gate", "+"),
            lambda topic, _payload, _r: answers.put(topic.encode()),
        )
        load = threading.Thread(target=_publish_streams, args=(settings, client, requests))

        load.start()
        seen = {answers.get(timeout=WAIT_S) for _ in range(50)}
        appliance.kill()
        appliance.start()
        while len(seen) < requests:
            seen.add(answers.get(timeout=WAIT_S))
        load.join()
        assert appliance.terminate() == 0

    with Reader(settings.database) as reader:
        streams = [reply.stream for reply in reader.inferences()]
    assert sorted(map(str, streams)) == sorted(f"s{number}" for number in range(requests))


def _publish_streams(settings: Settings, client: Session, count: int) -> None:
    """Publishes frames without correlation data, told apart by their streams."""
    frame = npy()
    sensor = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    sensor.connect(settings.mqtt_host, settings.mqtt_port)
    sensor.loop_start()
    for number in range(count):
        topic = client.topics.request("gate", f"s{number}")
        sensor.publish(topic, frame, qos=1).wait_for_publish(WAIT_S)
    sensor.disconnect()
    sensor.loop_stop()
