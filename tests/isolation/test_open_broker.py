"""What the appliance itself sees to, at a broker that lets everybody do everything."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.broker import Mosquitto
from appliance.messages import REPLY, Rejection, Result
from appliance.reader import Reader
from appliance.session import Session
from appliance.settings import Settings
from appliance.topics import RESERVED_NAMES, Topics
from tests.appliances import WAIT_S, Watch, client_of, push, serving
from tests.gate import POLICY, gate_settings, npy
from tests.isolation.roster import END
from tests.waiting import wait_until


@pytest.fixture
def open_settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    """An appliance's at a broker that lets anybody say anything."""
    return gate_settings(broker, tmp_path)


def foreign(topics: Topics, appliance: str) -> Sequence[str]:
    """Response Topics that are not below the results of the tenant `gate`."""
    return (
        topics.result("door"),
        topics.result("door", "north"),
        topics.result("gates"),
        topics.result("+"),
        topics.result("#"),
        f"{topics.result('gate')}/+",
        f"{topics.result('gate')}/#",
        f"{topics.result('gate')}/",
        f"{topics.result('gate')}/a\u200bb",
        f"{topics.result('gate')}/{'a/' * 250}a",
        f"$share/x/{topics.result('gate')}",
        "$SYS/broker/version",
        topics.policy_set("gate"),
        topics.policy_state("gate", appliance),
        topics.request("gate"),
        topics.appliance_status(appliance),
        topics.appliance_command(appliance),
        "#",
        "/",
    )


def ask(client: Session, topic: str, response_topic: str | None, correlation: bytes) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    # Not through the client's own functions, which would refuse a wildcard before the broker does.
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    properties.CorrelationData = correlation
    client._client.publish(topic, npy(), qos=1, properties=properties)  # noqa: SLF001


def test_an_open_broker_lends_nobody_the_appliances_voice(open_settings: Settings) -> None:
    box = open_settings.appliance_id
    with serving(open_settings), client_of(open_settings) as client:
        push(client, POLICY)
        own = Watch(client, client.topics.result("gate"))
        topics = foreign(client.topics, box)

        for number, response_topic in enumerate(topics):
            ask(client, client.topics.request("gate"), response_topic, bytes([number]))
        ask(client, client.topics.request("gate"), None, b"last")

        replies = [REPLY.validate_json(own.next()[1]) for _ in range(len(topics) + 1)]
        codes = [reply.code for reply in replies if isinstance(reply, Rejection)]
        assert codes == [403] * len(topics)
        assert sum(isinstance(reply, Result) for reply in replies) == 1


def test_a_refused_response_topic_hears_nothing(open_settings: Settings) -> None:
    with serving(open_settings), client_of(open_settings) as client:
        push(client, POLICY)
        victim = Watch(client, client.topics.result("door"))
        own = Watch(client, client.topics.result("gate"))

        ask(client, client.topics.request("gate"), client.topics.result("door"), b"1")
        own.next()
        client.publish(client.topics.result("door"), END.encode())

        assert victim.next()[1] == END.encode()


def test_requests_under_names_that_are_no_tenants_are_passed_by(open_settings: Settings) -> None:
    names = [
        *RESERVED_NAMES,
        "ga\u200bte",
        "gate ",
        "gate\u202e",
        "a\u2028b",
        "Tu\u0308r",
        "x" * 129,
    ]
    with serving(open_settings) as service, client_of(open_settings) as client:
        push(client, POLICY)
        heard = Watch(client, f"{open_settings.topic_prefix}/+/result/#")
        states = Watch(client, f"{open_settings.topic_prefix}/+/policy/state/#")
        states.next()

        for name in names:
            client.publish(f"{open_settings.topic_prefix}/{name}/policy/set", POLICY.encode())
            client.publish(f"{open_settings.topic_prefix}/{name}/request", npy())
        reply = client.infer("gate", npy(), timeout_s=WAIT_S)

        assert reply.status == "ok"
        assert heard.next()[0].startswith(client.topics.result("gate"))
        assert heard.is_silent()
        assert states.is_silent()
        assert service.health().well


def test_a_policy_of_another_tenant_is_not_put_in_force_on_either(open_settings: Settings) -> None:
    with serving(open_settings), client_of(open_settings) as client:
        state = push(client, POLICY, tenant="door")

        replies = [client.infer(tenant, npy(), timeout_s=WAIT_S) for tenant in ("door", "gate")]

        assert state.last_rejection is not None
        assert state.last_rejection.code == 422
        assert [reply.code for reply in replies if isinstance(reply, Rejection)] == [404, 404]


def test_what_others_say_on_the_appliances_own_topics_is_not_believed(
    open_settings: Settings,
) -> None:
    box = open_settings.appliance_id
    with serving(open_settings) as service, client_of(open_settings) as client:
        in_force = push(client, POLICY)
        forged = POLICY.replace("version: 1", "version: 9").encode()

        for topic in (
            client.topics.result("gate"),
            client.topics.policy_state("gate", box),
            client.topics.telemetry("gate", box),
            client.topics.appliance_status(box),
            client.topics.appliance_telemetry(box),
            client.topics.appliance_command(f"not-{box}"),
        ):
            for payload in (forged, b"offline", b'{"drain": true}'):
                client.publish(topic, payload)
        reply = client.infer("gate", npy(), timeout_s=WAIT_S)

        assert isinstance(reply, Result)
        assert reply.policy_version == in_force.version
        assert service.health().well
        client.publish(client.topics.policy_state("gate", box), b"", retain=True)


def test_a_request_is_answered_from_the_log_only_to_its_own_tenant(open_settings: Settings) -> None:
    mark = uuid.uuid4().bytes
    with serving(open_settings), client_of(open_settings) as client:
        push(client, POLICY)
        push(client, POLICY.replace("gate", "door"), tenant="door")
        replies = Watch(client, f"{open_settings.topic_prefix}/+/result")

        ask(client, client.topics.request("gate"), None, mark)
        answer = REPLY.validate_json(replies.next()[1])
        with Reader(open_settings.database) as reader:
            wait_until(lambda: list(reader.inferences()) == [answer])
        for tenant in ("gate", "door"):
            ask(client, client.topics.request(tenant), None, mark)

        again, others = sorted(
            (REPLY.validate_json(replies.next()[1]) for _ in range(2)),
            key=lambda reply: reply.tenant == "door",
        )
        assert again == answer
        assert (others.tenant, others.id == answer.id) == ("door", False)
