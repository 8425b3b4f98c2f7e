"""Requests to a running appliance, through a real broker."""

from __future__ import annotations

import io
import select
import subprocess
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from appliance.broker import Mosquitto
from appliance.messages import REPLY, Rejection, Result
from appliance.reader import Reader
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import WAIT_S, Watch, client_of, push, serving
from tests.gate import POLICY, answered, gate_settings, jpeg, npy, publish_frame, rejected


def test_a_frame_gets_a_result_with_all_that_the_design_promises(client: Session) -> None:
    reply = answered(client.infer("gate", npy(), stream="north"))

    assert (reply.tenant, reply.stream, reply.engine, reply.exit) == ("gate", "north", "tiny", 0)
    assert reply.stopped_by == "condition"
    assert reply.policy_version == 1
    assert reply.top[0].label == reply.label
    assert reply.confidence == reply.top[0].confidence
    assert 0 <= reply.queue_time_ms <= reply.response_time_ms
    assert reply.energy_source == "modelled"


def test_a_jpeg_is_answered_with_and_without_its_content_type(client: Session) -> None:
    named = client.infer("gate", jpeg(), content_type="image/jpeg")
    sniffed = client.infer("gate", jpeg())

    assert answered(named).index == answered(sniffed).index


@pytest.mark.parametrize(
    ("frame", "content_type", "code"),
    [
        (b"", None, 400),
        (b"not a frame", None, 415),
        (b"not a frame", "image/jpeg", 400),
        (jpeg()[:200], "image/jpeg", 400),
        (npy(np.full((1, 8, 8), np.nan, np.float32)), None, 400),
        (npy(np.zeros((3, 8, 8), np.float32)), None, 400),
        (b"x", "application/pdf", 415),
    ],
)
def test_a_bad_frame_is_rejected_and_the_next_one_answered(
    client: Session, frame: bytes, content_type: str | None, code: int
) -> None:
    rejection = rejected(client.infer("gate", frame, content_type=content_type))

    assert rejection.code == code
    assert rejection.detail
    assert answered(client.infer("gate", npy()))


def test_an_object_array_is_never_unpickled(client: Session) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    rejection = rejected(client.infer("gate", buffer.getvalue()))

    assert rejection.code == 400


def test_a_frame_over_the_limit_is_too_large(broker: Mosquitto, tmp_path: Path) -> None:
    settings = gate_settings(broker, tmp_path, max_frame="2kB")

    with serving(settings), client_of(settings) as client:
        push(client, POLICY)
        rejection = rejected(client.infer("gate", bytes(3000)))

    assert rejection.code == 413


def test_a_tenant_without_a_policy_is_told_so(client: Session) -> None:
    rejection = rejected(client.infer("stranger", npy()))

    assert rejection.code == 404
    assert "stranger" in rejection.detail


def test_a_foreign_response_topic_is_refused(settings: Settings, client: Session) -> None:
    foreign = client.topics.result("other", "inbox")
    others, own = Watch(client, foreign), Watch(client, client.topics.result("gate", "north"))

    publish_frame(settings, client.topics.request("gate", "north"), npy(), response_topic=foreign)
    topic, payload = own.next()

    assert topic == client.topics.result("gate", "north")
    assert rejected(REPLY.validate_json(payload)).code == 403
    assert others.is_silent()


def test_a_retained_request_is_refused(settings: Settings, client: Session) -> None:
    results = Watch(client, client.topics.result("gate"))
    topic = client.topics.request("gate")

    publish_frame(settings, topic, npy(), retain=True)
    _, payload = results.next()
    client.publish(topic, b"", retain=True)

    rejection = rejected(REPLY.validate_json(payload))
    assert rejection.code == 400
    assert "retain" in rejection.detail


def test_a_client_of_mqtt_3_1_1_reads_its_result_on_the_streams_topic(
    settings: Settings, client: Session
) -> None:
    results = Watch(client, client.topics.result("gate", "old"))
    old = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    old.connect(settings.mqtt_host, settings.mqtt_port)
    old.loop_start()

    old.publish(client.topics.request("gate", "old"), npy(), qos=1).wait_for_publish(WAIT_S)
    _, payload = results.next()
    old.disconnect()
    old.loop_stop()

    assert answered(REPLY.validate_json(payload)).stream == "old"


def test_a_request_of_qos_0_is_answered_too(settings: Settings, client: Session) -> None:
    results = Watch(client, client.topics.result("gate"))

    publish_frame(settings, client.topics.request("gate"), npy(), qos=0)

    assert answered(REPLY.validate_json(results.next()[1]))


def test_the_c_clients_get_a_result_for_a_jpeg(
    settings: Settings, client: Session, tmp_path: Path
) -> None:
    frame = tmp_path / "frame.jpg"
    frame.write_bytes(jpeg())
    address = ("-h", settings.mqtt_host, "-p", str(settings.mqtt_port), "-V", "5", "-q", "1")
    own = client.topics.result("gate", "c")

    with subprocess.Popen(
        ["mosquitto_sub", *address, "-t", own, "-C", "1", "-W", f"{WAIT_S:.0f}", "-F", "%D %p"],
        stdout=subprocess.PIPE,
    ) as reader:
        answer = None
        while answer is None:  # until the subscription stands, nothing is heard
            subprocess.run(
                [
                    *("mosquitto_pub", *address, "-t", client.topics.request("gate")),
                    *("-f", str(frame), "-D", "publish", "response-topic", own),
                    *("-D", "publish", "correlation-data", "42"),
                ],
                check=True,
            )
            answer = _line_within(reader, 0.2)

    correlation, _, payload = answer.partition(b" ")
    assert correlation == b"42"
    assert answered(REPLY.validate_json(payload)).engine == "tiny"


def test_mosquitto_rr_gets_a_reply(settings: Settings, client: Session) -> None:
    topics = client.topics

    done = subprocess.run(
        [
            *("mosquitto_rr", "-h", settings.mqtt_host, "-p", str(settings.mqtt_port)),
            *("-V", "5", "-q", "1", "-t", topics.request("gate"), "-m", "no frame"),
            *("-e", topics.result("gate", "rr"), "-W", f"{WAIT_S:.0f}"),
        ],
        capture_output=True,
        check=True,
    )

    assert rejected(REPLY.validate_json(done.stdout)).code == 415


def test_a_duplicate_is_answered_again_from_the_log_and_not_run_again(
    settings: Settings, client: Session
) -> None:
    results = Watch(client, client.topics.result("gate"))
    topic = client.topics.request("gate")

    publish_frame(settings, topic, npy(), correlation=b"one")
    first = answered(REPLY.validate_json(results.next()[1]))
    publish_frame(settings, topic, npy(), correlation=b"one")
    second = answered(REPLY.validate_json(results.next()[1]))

    assert second == first
    with Reader(settings.database) as reader:
        assert [reply.id for reply in reader.inferences()] == [first.id]


def test_the_same_mark_on_a_new_frame_is_a_new_request(settings: Settings, client: Session) -> None:
    results = Watch(client, client.topics.result("gate"))
    topic = client.topics.request("gate")

    publish_frame(settings, topic, npy(), correlation=b"1")
    first = answered(REPLY.validate_json(results.next()[1]))
    publish_frame(settings, topic, npy(np.zeros((1, 8, 8), np.float32)), correlation=b"1")
    second = answered(REPLY.validate_json(results.next()[1]))

    assert second.id != first.id


def test_a_full_queue_sheds_the_oldest_and_tells_its_sender(client: Session) -> None:
    policy = POLICY.replace("version: 1", "version: 2") + "queue: {limit: 1, full: drop-oldest}"
    push(client, policy)

    replies = [client.submit("gate", npy()) for _ in range(60)]
    outcomes = [reply.result(WAIT_S) for reply in replies]

    assert isinstance(outcomes[-1], Result)
    assert {outcome.code for outcome in outcomes if isinstance(outcome, Rejection)} <= {429}


def _line_within(process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if ready else None
