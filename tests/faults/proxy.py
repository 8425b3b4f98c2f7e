"""A stretch of bad network: a proxy on loopback that knows where MQTT packets end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from typing_extensions import Self

from appliance.broker import HOST
from tests.faults.packets import ACKNOWLEDGEMENTS, Packets, kind_of

_CHUNK_BYTES = 64 * 1024
_START_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Weather:
    """What becomes of what passes through."""

    silent: bool = False
    """Whether it is swallowed, both ways, while the connections seem to stand."""
    ack_delay_s: float = 0.0
    """By how much acknowledgements come late."""
    ack_jitter_s: float = 0.0
    """By how much more at most, each by itself: so they overtake each other."""


FAIR = Weather()


class Proxy:
    """Listens on a port of its own and passes on to the broker, in whatever weather there is."""

    def __init__(self, *, target_port: int, seed: str) -> None:
        self.weather = FAIR
        self._target_port = target_port
        self._chance = Random(seed)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listens.wait(_START_S):
            raise TimeoutError("the proxy does not listen")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Breaks every connection, without a goodbye to either end."""
        self._wait_for(self._cut())

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    # From here on, everything runs in the proxy's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, HOST, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listens.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        await self._cut()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pass_on(reader, far_writer), self._pass_on(far_reader, writer)
            )
        finally:
            self._writers -= both

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packets = Packets()
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                for packet in packets.feed(data):
                    self._send(packet, writer.transport)
                await writer.drain()
        # A silent network hides a goodbye as well; who cuts it ends both sides.
        if not self.weather.silent:
            writer.close()

    def _send(self, packet: bytes, transport: asyncio.WriteTransport) -> None:
        weather = self.weather
        if weather.silent:
            return
        delay_s = 0.0
        if kind_of(packet) in ACKNOWLEDGEMENTS:
            delay_s = weather.ack_delay_s + self._chance.uniform(0.0, weather.ack_jitter_s)
        if delay_s > 0.0:
            self._loop.call_later(delay_s, _write, transport, packet)
        else:
            _write(transport, packet)


def _write(transport: asyncio.WriteTransport, packet: bytes) -> None:
    if not transport.is_closing():
        transport.write(packet)
