"""The connection of whoever watches a fleet: what is published waits here until it is taken."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from typing_extensions import Self

from appliance.connection import BrokerAddress, Connection, Listener, Terms
from appliance.errors import BrokerError
from appliance.fleet.reports import MAX_BYTES, Received
from appliance.topics import Topics

MAX_WAITING = 20_000
"""How many messages may wait to be taken; of more, the oldest go."""

MAX_WAITING_BYTES = 32 * 1024 * 1024
MAX_REFUSALS = 20
RETRY_AT_MOST_S = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """How the connection stands."""

    connected: bool
    since_s: float
    """Since when, in seconds since the epoch."""
    failure: str | None = None
    """Why there is none."""


class Watcher:
    """Entered it connects, and again whenever it has to; left it is closed.

    It hears of statuses, telemetry and policy states always, and of the results of those tenants
    only that somebody looks at. All but the network thread's callbacks belongs to one thread.
    """

    def __init__(self, broker: BrokerAddress, *, prefix: str) -> None:
        self.topics = Topics(prefix)
        self.left_out = 0
        """How many messages went before they were taken."""
        self._broker = broker
        self._connection = Connection(
            broker,
            client_id=f"delen-watcher-{uuid.uuid4().hex[:12]}",
            listener=Listener(
                accepted=self._accepted,
                refused=self._lost,
                lost=self._lost,
                received=self._received,
                published=self._published,
            ),
            # What nobody reads need not be sent: twice as much, since properties count as well.
            terms=Terms(max_packet_bytes=2 * MAX_BYTES, last_retry_s=RETRY_AT_MOST_S),
        )
        self._client = self._connection.client
        self._waiting: deque[tuple[float, Received]] = deque()
        self._waiting_bytes = 0
        self._looked_at: Counter[str] = Counter()
        self._refusals: deque[tuple[int, str]] = deque(maxlen=MAX_REFUSALS)
        self._lock = threading.Lock()
        self.link = Link(connected=False, since_s=time.time(), failure="not connected yet")

    def __enter__(self) -> Self:
        self._connection.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._lost("the connection is closed")

    def take(self) -> list[tuple[float, Received]]:
        """What came since it was last taken, each with its moment in seconds since the epoch."""
        with self._lock:
            taken, self._waiting = self._waiting, deque()
            self._waiting_bytes = 0
        return list(taken)

    def look_at(self, tenant: str) -> None:
        """Has the tenant's results come, too, until `look_away` was called as often."""
        self._looked_at[tenant] += 1
        if self._looked_at[tenant] == 1:
            self._subscribe([self._results(tenant)])

    def look_away(self, tenant: str) -> None:
        self._looked_at[tenant] -= 1
        if self._looked_at[tenant] <= 0:
            del self._looked_at[tenant]
            self._client.unsubscribe(self._results(tenant))

    def push(self, tenant: str, document: bytes) -> int:
        """Publishes a policy; what becomes of it is told by the appliances' policy states.

        Gives the message's number, by which `refusal` says whether the broker took it. Raises
        BrokerError where there is no connection.
        """
        if not self._client.is_connected():
            raise BrokerError(f"no connection to the broker {self._broker}: nothing was pushed")
        sent = self._client.publish(self.topics.policy_set(tenant), document, qos=1)
        if sent.rc != mqtt.MQTT_ERR_SUCCESS:
            raise BrokerError(f"the policy was not sent: {mqtt.error_string(sent.rc)}")
        return sent.mid

    def refusal(self, number: int) -> str | None:
        """Why the broker did not take a message; None where it did, or has not answered yet."""
        return next((why for refused, why in list(self._refusals) if refused == number), None)

    def _results(self, tenant: str) -> str:
        return f"{self.topics.result(tenant)}/#"

    def _filters(self) -> list[str]:
        topics = self.topics
        always = [
            topics.appliance_status("+"),
            topics.telemetry("+", "+"),
            topics.policy_state("+", "+"),
            # Last, also where a broker retains it: who has it has what is told of the tenants.
            topics.appliance_telemetry("+"),
        ]
        return always + [self._results(tenant) for tenant in list(self._looked_at)]

    def _subscribe(self, filters: Iterable[str]) -> None:
        if self._client.is_connected():
            self._client.subscribe([(one, SubscribeOptions(qos=0)) for one in filters])

    def _accepted(self, _session_present: bool) -> None:  # noqa: FBT001 - it is told this alone
        self.link = Link(connected=True, since_s=time.time())
        self._subscribe(self._filters())

    def _lost(self, failure: str) -> None:
        since_s = time.time() if self.link.connected else self.link.since_s
        self.link = Link(connected=False, since_s=since_s, failure=failure)

    def _published(self, number: int, reason: ReasonCode) -> None:
        if reason.is_failure:
            self._refusals.append((number, f"the broker did not take it: {reason}"))

    def _received(self, message: mqtt.MQTTMessage) -> None:
        received = Received(
            topic=message.topic, payload=bytes(message.payload), retained=message.retain
        )
        with self._lock:
            self._waiting.append((time.time(), received))
            self._waiting_bytes += len(received.payload)
            while len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
                _, gone = self._waiting.popleft()
                self._waiting_bytes -= len(gone.payload)
                self.left_out += 1
