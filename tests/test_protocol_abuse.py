"""Publishers that use MQTT as no library would: each gets an answer or a word, and others go on."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from appliance.arrivals import MAX_CORRELATION_BYTES
from appliance.broker import Mosquitto
from appliance.messages import REPLY, Reply, Result
from appliance.session import Session
from appliance.settings import Settings
from tests import raw_mqtt
from tests.appliances import Watch, client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.gate import POLICY, npy
from tests.raw_mqtt import RawClient, packet, publish

LARGEST_REJECTION_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Bench:
    settings: Settings
    client: Session
    results: Watch

    @property
    def topic(self) -> str:
        return self.client.topics.request("gate")

    def raw(self, *, level: int = 5) -> RawClient:
        return RawClient(
            self.settings.mqtt_host,
            self.settings.mqtt_port,
            level=level,
            client_id=uuid.uuid4().hex,
        )

    def reply_to(self, *packets: bytes, level: int = 5) -> Reply:
        """What is answered to packets on the tenant's own result topics."""
        with self.raw(level=level) as raw:
            for data in packets:
                raw.send(data)
            return REPLY.validate_json(self.results.next()[1])

    def goes_on(self) -> bool:
        """Whether a request after all that is answered, and nothing else was."""
        return isinstance(self.client.infer("gate", npy()), Result) and self.results.is_silent()


@pytest.fixture(scope="module")
def appliance(
    broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Session]]:
    folder = tmp_path_factory.mktemp("abused")
    tiny_engine(folder / "engines" / "tiny")
    settings = settings_for(broker, folder)
    with serving(settings), client_of(settings) as client:
        push(client, POLICY)
        yield settings, client


@pytest.fixture
def bench(appliance: tuple[Settings, Session]) -> Iterator[Bench]:
    settings, client = appliance
    with client_of(settings) as watcher:
        # Replies to the well-behaved client go to a topic of its own.
        results = Watch(watcher, client.topics.result("gate"))
        yield Bench(settings=settings, client=client, results=results)


def code_of(reply: Reply) -> int | None:
    return None if isinstance(reply, Result) else reply.code


PROPERTIES: dict[str, tuple[bytes, int | None]] = {
    "user properties of half a megabyte": (raw_mqtt.user_property("x" * 60_000, "y") * 8, None),
    "no correlation data at all": (raw_mqtt.correlation(b""), None),
    "the longest correlation data": (raw_mqtt.correlation(bytes(65_535)), 413),
    "more correlation data than comes back": (
        raw_mqtt.correlation(bytes(MAX_CORRELATION_BYTES + 1)),
        413,
    ),
    "a payload that is said to be UTF-8": (raw_mqtt.payload_is_utf8(), None),
    "the longest expiry": (raw_mqtt.expiry(2**32 - 1), None),
    "a content type without end": (raw_mqtt.content_type("image/" + "x" * 65_000), 415),
    "a content type of nothing": (raw_mqtt.content_type(""), None),
    "a foreign response topic": (raw_mqtt.response_topic("other/result"), 403),
    "a response topic at a request": (raw_mqtt.response_topic("gate/request"), 403),
    "a response topic without end": (raw_mqtt.response_topic("a/" * 30_000), 403),
}


@pytest.mark.parametrize(("properties", "code"), PROPERTIES.values(), ids=PROPERTIES)
@pytest.mark.parametrize("qos", [0, 1])
def test_strange_properties_get_an_answer_or_a_word(
    bench: Bench, properties: bytes, code: int | None, qos: int
) -> None:
    reply = bench.reply_to(publish(bench.topic, npy(), qos=qos, properties=properties))

    assert code_of(reply) == code
    assert bench.goes_on()


def test_a_word_is_never_much_larger_than_what_it_answers(bench: Bench) -> None:
    stream = "s" * 100
    with client_of(bench.settings) as watcher, bench.raw() as raw:
        results = Watch(watcher, bench.client.topics.result("gate", stream))
        long = raw_mqtt.content_type("x/" + "é" * 30_000) + raw_mqtt.correlation(bytes(60_000))
        raw.send(publish(bench.client.topics.request("gate", stream), b"?", properties=long))
        _, payload = results.next()

    assert len(payload) < LARGEST_REJECTION_BYTES


def test_an_empty_frame_is_malformed(bench: Bench) -> None:
    assert code_of(bench.reply_to(publish(bench.topic, b"", qos=1))) == 400


def test_a_retained_request_is_refused(bench: Bench) -> None:
    reply = bench.reply_to(publish(bench.topic, npy(), qos=1, retain=True))

    bench.client.publish(bench.topic, b"", retain=True)
    assert code_of(reply) == 400


def test_a_request_with_the_flag_of_a_duplicate_is_answered(bench: Bench) -> None:
    reply = bench.reply_to(publish(bench.topic, npy(), qos=1, duplicate=True, packet_id=65_535))

    assert code_of(reply) is None
    assert bench.goes_on()


def test_a_topic_alias_is_the_brokers_to_resolve(bench: Bench) -> None:
    alias = raw_mqtt.topic_alias(1)

    with bench.raw() as raw:
        raw.send(publish(bench.topic, npy(), properties=alias))
        raw.send(publish("", npy(), properties=alias))
        replies = [REPLY.validate_json(bench.results.next()[1]) for _ in range(2)]

    assert [code_of(reply) for reply in replies] == [None] * 2
    assert bench.goes_on()


def test_a_request_of_qos_2_is_answered_once(bench: Bench) -> None:
    release = packet(0x62, struct.pack(">H", 7))

    reply = bench.reply_to(publish(bench.topic, npy(), qos=2, packet_id=7), release, release)

    assert code_of(reply) is None
    assert bench.goes_on()


def test_old_clients_may_send_anything_as_well(bench: Bench) -> None:
    reply = bench.reply_to(publish(bench.topic, b"\x00", qos=1, properties=None), level=4)

    assert code_of(reply) == 415
    assert bench.goes_on()


@pytest.mark.parametrize(
    "levels",
    ["request/" + "x" * 65_000, "request/" + "/".join("y" * 20_000), "request/" + "é" * 65],
    ids=["long", "deep", "one byte too long"],
)
def test_topics_without_end_are_passed_by(bench: Bench, levels: str) -> None:
    topic = f"{bench.settings.topic_prefix}/gate/{levels}"

    with bench.raw() as raw:
        raw.send(publish(topic, npy(), qos=1))

        assert bench.goes_on()


@pytest.mark.parametrize(
    "data",
    [
        raw_mqtt.expiry(0),
        raw_mqtt.response_topic("gate/result/#"),
        raw_mqtt.response_topic(b"\xff\xfe"),
        raw_mqtt.correlation(b"a") + raw_mqtt.correlation(b"b"),
        raw_mqtt.content_type("image/png\r\nX: y"),
        raw_mqtt.topic_alias(0),
        b"\x7e\x01",
    ],
    ids=[
        "expired at once",
        "a wildcard",
        "no UTF-8",
        "twice the same",
        "lines",
        "no alias",
        "no property",
    ],
)
def test_what_the_broker_itself_may_refuse_harms_nobody(bench: Bench, data: bytes) -> None:
    with bench.raw() as raw:
        try:
            raw.send(publish(bench.topic, npy(), qos=1, properties=data))
            raw.read()
        except (TimeoutError, OSError):
            pass

        assert isinstance(bench.client.infer("gate", npy()), Result)
