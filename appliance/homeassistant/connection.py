"""The connection over which Home Assistant is told, apart from the one that requests come over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from random import SystemRandom

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode
from typing_extensions import Self

from appliance.connection import BrokerAddress, Connection, Listener, Terms
from appliance.homeassistant.announced import AnnouncedFile
from appliance.homeassistant.announcer import Announcer
from appliance.homeassistant.discovery import Discovery

_log = logging.getLogger(__name__)

KEEPALIVE_S = 60
SLOWEST_RECONNECT_S = 60


class HomeAssistant:
    """Keeps Home Assistant told of an appliance and its tenants while its `with` block runs.

    `tick` does the work, in the thread that calls it. Where it is not `wanted`, what was announced
    before is taken back; where nothing was, it opens nothing. A connection of its own means that a
    broker that refuses these topics does not keep requests away.
    """

    def __init__(
        self,
        *,
        wanted: bool,
        broker: BrokerAddress,
        discovery: Discovery,
        announced: Path,
        clock: Callable[[], float],
    ) -> None:
        self._wanted = wanted
        self._broker = broker
        self._discovery = discovery
        self._clock = clock
        self._file = AnnouncedFile(announced)
        self._announcer = Announcer(announced=self._file.topics, random=SystemRandom())
        self._connected = threading.Event()
        self._connected_anew = threading.Event()
        self._born = threading.Event()
        self._acknowledged: SimpleQueue[int] = SimpleQueue()
        self._taking_back: dict[int, str] = {}
        self._tenants: tuple[str, ...] | None = None
        self._documents: Mapping[str, bytes] = {}
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        if self._wanted or self._file.topics:
            self._connection = self._new_connection()
            self._connection.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def tick(self, tenants: Iterable[str]) -> bool:
        """Tells what is to be told now. True where Home Assistant has learnt all there is a moment
        ago: it knows no states then before the next telemetry.
        """
        if self._connection is None or not self._connected.is_set():
            return False
        self._heed_events()
        self._note_what_is_gone()
        documents = self._documents_of(tuple(tenants) if self._wanted else None)
        announcement = self._announcer.next(self._clock(), documents)
        if announcement is not None:
            topic, document = announcement.topic, announcement.document
            self._file.add(topic)
            info = self._connection.client.publish(topic, document, qos=1, retain=True)
            if not document:
                self._taking_back[info.mid] = topic
        elif not self._wanted and not self._file.topics:
            _log.info("Home Assistant has forgotten this appliance")
            self._close()
        return self._announcer.has_settled(self._clock(), documents)

    def _heed_events(self) -> None:
        if self._connected_anew.is_set():
            self._connected_anew.clear()
            self._announcer.repeat()
        if self._born.is_set():
            self._born.clear()
            self._announcer.born(self._clock())

    def _note_what_is_gone(self) -> None:
        while not self._acknowledged.empty():
            topic = self._taking_back.pop(self._acknowledged.get(), None)
            if topic is not None and topic not in self._documents:
                self._announcer.forget(topic)
                self._file.remove(topic)

    def _documents_of(self, tenants: tuple[str, ...] | None) -> Mapping[str, bytes]:
        if tenants is None:
            return {}
        if tenants != self._tenants:
            self._tenants = tenants
            self._documents = self._discovery.documents(tenants)
        return self._documents

    def _new_connection(self) -> Connection:
        return Connection(
            self._broker,
            client_id=self._broker.client_id(f"homeassistant-{self._discovery.appliance}"),
            listener=Listener(
                accepted=self._accepted,
                refused=self._refused,
                lost=lambda _: self._connected.clear(),
                received=self._received,
                subscribed=self._subscribed,
                published=self._published,
            ),
            terms=Terms(keepalive_s=KEEPALIVE_S, last_retry_s=SLOWEST_RECONNECT_S),
        )

    # What follows runs on paho's network thread, which dies of what is raised on it.

    def _accepted(self, _session_present: bool) -> None:  # noqa: FBT001 - it is told this alone
        if self._connection is not None:
            self._connection.client.subscribe(self._discovery.birth(), qos=1)
        self._connected_anew.set()
        self._connected.set()

    def _refused(self, sentence: str) -> None:
        _log.error("Home Assistant cannot be told: %s", sentence)

    def _subscribed(self, _mid: int, reasons: Sequence[ReasonCode]) -> None:
        if any(reason.is_failure for reason in reasons):
            _log.error(
                "the broker does not let %s be read, so that a start of Home Assistant is not"
                " noticed: let its ACL allow it", self._discovery.birth(),
            )  # fmt: skip

    def _published(self, mid: int, reason: ReasonCode) -> None:
        self._acknowledged.put(mid)
        if reason.is_failure:
            _log.error(
                "the broker refuses what Home Assistant is to be told (%s): let its ACL allow"
                " %s/device/+/config to be written", reason, self._discovery.prefix,
            )  # fmt: skip

    def _received(self, message: mqtt.MQTTMessage) -> None:
        # A birth that is retained tells of a start that may be long ago: it was heeded by then,
        # or everything is told now anyway.
        if message.payload == b"online" and not message.retain:
            self._born.set()
