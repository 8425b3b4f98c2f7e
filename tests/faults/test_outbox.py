"""A sensor's book: what it sent, how often at most, and when that was acknowledged."""

from __future__ import annotations

import time

from paho.mqtt.client import MQTTMessageInfo

from tests.faults.history import Sent
from tests.faults.outbox import Outbox
from tests.faults.test_checker import a_request


def unacknowledged(number: int) -> Sent:
    sent = a_request("gate", number)
    return Sent(
        tenant=sent.tenant,
        stream=sent.stream,
        correlation=sent.correlation,
        reply_topic=sent.reply_topic,
        published_s=time.time(),
        acknowledged_s=None,
    )


def publish(outbox: Outbox[Sent], mid: int) -> None:
    outbox.publish(unacknowledged(mid), lambda: MQTTMessageInfo(mid))


def test_what_is_acknowledged_is_outstanding_no_more() -> None:
    outbox: Outbox[Sent] = Outbox()
    publish(outbox, 1)
    publish(outbox, 2)

    outbox.acknowledged(1)

    (first, _), (second, _) = outbox.items()
    assert first.acknowledged_s is not None
    assert second.acknowledged_s is None
    assert outbox.outstanding() == 1


def test_an_acknowledgement_may_come_before_publish_returns() -> None:
    outbox: Outbox[Sent] = Outbox()

    def publish_and_be_acknowledged() -> MQTTMessageInfo:
        outbox.acknowledged(1)
        return MQTTMessageInfo(1)

    outbox.publish(unacknowledged(1), publish_and_be_acknowledged)

    assert outbox.outstanding() == 0


def test_each_new_connection_may_send_once_more_what_is_outstanding() -> None:
    outbox: Outbox[Sent] = Outbox()
    outbox.connected()
    publish(outbox, 1)
    publish(outbox, 2)

    outbox.connected()
    outbox.acknowledged(1)
    outbox.connected()

    assert [times for _, times in outbox.items()] == [2, 3]
