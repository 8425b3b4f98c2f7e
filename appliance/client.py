"""For application developers: frames in, typed replies out, blocking or with asyncio."""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path

from typing_extensions import Self

from appliance.connection import BrokerAddress
from appliance.errors import BrokerError, DelenError, FrameError, NoReply
from appliance.messages import Rejection, Reply, Result
from appliance.payloads import Frame, Payload, payload_of
from appliance.session import Session
from appliance.settings import Settings, read_settings
from appliance.topics import level_fault, tenant_fault

__all__ = [
    "AsyncClient",
    "BrokerAddress",
    "BrokerError",
    "Client",
    "DelenError",
    "Frame",
    "FrameError",
    "NoReply",
    "Rejection",
    "Reply",
    "RequestRejected",
    "Result",
]

TIMEOUT_S = 10.0
MAX_IN_FLIGHT = 64

MAX_TIMEOUT_S = 2.0**32 - 1.0
"""MQTT 5, 3.3.2.3.3: what a message's expiry can say."""

MAX_CONTENT_TYPE_BYTES = 1024

PORT, TLS_PORT, MAX_PORT = 1883, 8883, 65_535


class RequestRejected(DelenError):
    """An appliance turned a frame away; `rejection` says why and what to do."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(f"{rejection.code} {rejection.reason}: {rejection.detail}")
        self.rejection = rejection


class _TenantsClient:
    """Which broker, which tenant, and how many frames at a time."""

    def __init__(  # noqa: PLR0913 - whatever it takes to reach a broker, by name
        self,
        broker: str | BrokerAddress = "localhost",
        *,
        tenant: str,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        tls_ca: Path | str | None = None,
        tls_cert: Path | str | None = None,
        tls_key: Path | str | None = None,
        prefix: str = "delen/v1",
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        """The broker by its host's name, with what else it takes to reach it, or by its address.

        `username` is the tenant's name where only a password is given. With `tls_ca`, the file of
        the broker's certificate authority, the connection is TLS; the port is then 8883, else
        1883, unless it is given. `tls_cert` and `tls_key` are the client's own certificate, where
        the broker asks for one. At most `max_in_flight` frames are on their way at a time.
        """
        if (fault := tenant_fault(tenant)) is not None:
            raise ValueError(f"{tenant!r} is no tenant: {fault}")
        if max_in_flight < 1:
            raise ValueError(f"{max_in_flight} frames in flight are none: allow one or more")
        if isinstance(broker, str):
            broker = BrokerAddress(
                host=broker,
                port=port or (PORT if tls_ca is None else TLS_PORT),
                username=tenant if username is None and password is not None else username,
                password=password,
                tls_ca=_path(tls_ca),
                tls_cert=_path(tls_cert),
                tls_key=_path(tls_key),
            )
        _check_place(broker, prefix)
        self.tenant = tenant
        self._broker = broker
        self._prefix = prefix
        self._max_in_flight = max_in_flight
        self._session: Session | None = None
        self._opening = threading.Lock()

    @property
    def in_flight(self) -> int:
        """How many frames are on their way, or wait for their replies."""
        session = self._session
        return 0 if session is None else session.in_flight

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        tenant: str,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> Self:
        """A client of the broker that the settings name; by default they are read as `delen` does.

        Raises SettingsError.
        """
        settings = settings or read_settings()
        return cls(
            BrokerAddress.of(settings),
            tenant=tenant,
            prefix=settings.topic_prefix,
            max_in_flight=max_in_flight,
        )

    def _new_session(self) -> Session:
        return Session(self._broker, prefix=self._prefix)

    def _send(
        self,
        session: Session,
        payload: Payload,
        *,
        content_type: str | None,
        stream: str | None,
        timeout_s: float,
    ) -> Future[Reply]:
        return session.submit(
            self.tenant,
            payload.frame,
            content_type=content_type or payload.content_type,
            stream=stream,
            expiry_s=max(1, math.ceil(timeout_s)),
        )


class Client(_TenantsClient):
    """A tenant's way to its appliances, from any number of threads.

        with Client("box.local", tenant="gate", password="...") as client:
            reply = client.infer("frame.jpg")

    Outside of a `with` block it connects for the first frame, and is to be closed. It reconnects
    by itself: a frame that waits for its reply meanwhile is sent again, and answered once.
    """

    _places: threading.BoundedSemaphore

    def open(self) -> Self:
        """Connects, unless it is connected. Raises BrokerError where there is no way to."""
        self._connected()
        return self

    def close(self) -> None:
        """Disconnects; whoever waits for a reply gets a BrokerError. It may be opened again."""
        with self._opening:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(
        self,
        frame: Frame,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Reply:
        """Sends a frame and waits for its Result or Rejection.

        Raises NoReply (a TimeoutError, too) when there is none in time, BrokerError where the
        broker refuses the frame or cannot be reached at first, FrameError for what is no frame,
        ValueError for another argument that cannot be.
        """
        reply = self.submit(frame, content_type=content_type, stream=stream, timeout_s=timeout_s)
        try:
            return reply.result(timeout_s)
        except NotInTime:
            raise self._connected().no_reply(self.tenant, timeout_s) from None
        finally:
            reply.cancel()

    def answer(
        self,
        frame: Frame,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Result:
        """As `infer`, for whoever wants nothing but answers: a Rejection raises RequestRejected."""
        return _answer_in(
            self.infer(frame, content_type=content_type, stream=stream, timeout_s=timeout_s)
        )

    def submit(
        self,
        frame: Frame,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Future[Reply]:
        """Sends a frame, as soon as fewer than `max_in_flight` are on their way; gives its reply.

        Nobody wants the reply after `timeout_s`, so that the appliance may drop the frame then.
        Whoever gives up waiting cancels the future. Raises NoReply where no frame before this one
        is answered in time.
        """
        _check(content_type=content_type, stream=stream, timeout_s=timeout_s)
        payload = payload_of(frame)
        session = self._connected()
        places = self._places
        if not places.acquire(timeout=timeout_s):
            raise session.no_reply(self.tenant, timeout_s)
        try:
            reply = self._send(
                session, payload, content_type=content_type, stream=stream, timeout_s=timeout_s
            )
        except BaseException:
            places.release()
            raise
        reply.add_done_callback(lambda _: places.release())
        return reply

    def _connected(self) -> Session:
        with self._opening:
            if self._session is None:
                session = self._new_session()
                session.open(self.tenant)
                self._places = threading.BoundedSemaphore(self._max_in_flight)
                self._session = session
            return self._session


class AsyncClient(_TenantsClient):
    """The same for asyncio: `async with AsyncClient(...) as client: await client.infer(frame)`.

    It belongs to the event loop that it is opened in. A task that is cancelled while it waits
    leaves nothing behind.
    """

    _places: asyncio.Semaphore

    async def open(self) -> Self:
        """Connects, unless it is connected. Raises BrokerError where there is no way to."""
        if self._session is not None:
            return self
        session = self._new_session()
        try:
            await asyncio.to_thread(session.open, self.tenant)
        except asyncio.CancelledError:
            # Not awaited: whoever cancels need not wait until a connection is given up.
            asyncio.get_running_loop().run_in_executor(None, session.close)
            raise
        self._places = asyncio.Semaphore(self._max_in_flight)
        self._session = session
        return self

    async def close(self) -> None:
        """Disconnects; whoever waits for a reply gets a BrokerError. It may be opened again."""
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def infer(
        self,
        frame: Frame,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Reply:
        """Sends a frame and waits for its Result or Rejection; raises what `Client.infer` does."""
        if self._session is None:
            raise BrokerError("the client is not open: write `async with` or `await client.open()`")
        _check(content_type=content_type, stream=stream, timeout_s=timeout_s)
        session, places = self._session, self._places
        # Files and pictures take long enough to be noticed by other tasks.
        payload = await asyncio.to_thread(payload_of, frame)

        async def exchange() -> Reply:
            async with places:
                reply = self._send(
                    session, payload, content_type=content_type, stream=stream, timeout_s=timeout_s
                )
                try:
                    return await asyncio.wrap_future(reply)
                finally:
                    reply.cancel()

        try:
            return await asyncio.wait_for(exchange(), timeout_s)
        except asyncio.TimeoutError:
            raise session.no_reply(self.tenant, timeout_s) from None

    async def answer(
        self,
        frame: Frame,
        *,
        content_type: str | None = None,
        stream: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Result:
        """As `infer`, for whoever wants nothing but answers: a Rejection raises RequestRejected."""
        return _answer_in(
            await self.infer(frame, content_type=content_type, stream=stream, timeout_s=timeout_s)
        )


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)


def _check_place(broker: BrokerAddress, prefix: str) -> None:
    """Raises ValueError for what is waited for in vain: no broker is there, no topic is below."""
    if not broker.host:
        raise ValueError("'' is no broker: give its host's name or address")
    if not 1 <= broker.port <= MAX_PORT:
        raise ValueError(
            f"{broker.port} is no port: brokers listen on 1 to {MAX_PORT}, mostly 1883"
        )
    for level in prefix.split("/"):
        if (fault := level_fault(level)) is not None:
            raise ValueError(f"{prefix!r} is no prefix of topics: {fault}")


def _check(*, content_type: str | None, stream: str | None, timeout_s: float) -> None:
    """Raises ValueError for what a request cannot say.

    Some of it paho would only find out when it sends the request again, on its network thread;
    and some of it makes brokers end the connection, each time that it is sent again.
    """
    if stream is not None and (fault := level_fault(stream)) is not None:
        raise ValueError(f"{stream!r} is no stream: {fault}")
    if content_type is not None and not (
        content_type.isprintable() and len(content_type.encode()) <= MAX_CONTENT_TYPE_BYTES
    ):
        raise ValueError(f"{content_type[:40]!r} is no content type: image/jpeg would be one")
    if not -MAX_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
        raise ValueError(f"{timeout_s} s is no timeout: give at most {MAX_TIMEOUT_S:.0f} seconds")


def _answer_in(reply: Reply) -> Result:
    if isinstance(reply, Rejection):
        raise RequestRejected(reply)
    return reply
