"""Bad network between two real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from appliance.broker import HOST
from tests.faults.proxy import FAIR, Proxy, Weather

ACKNOWLEDGEMENT = b"\x40\x02\x00\x01"
PING = b"\xc0\x00"
WAIT_S = 60.0


@pytest.fixture
def far() -> Iterator[socket.socket]:
    """A listening socket, in the broker's place."""
    with closing(socket.create_server((HOST, 0))) as server:
        server.settimeout(WAIT_S)
        yield server


@pytest.fixture
def proxy(far: socket.socket) -> Iterator[Proxy]:
    with Proxy(target_port=far.getsockname()[1], seed="test") as proxy:
        yield proxy


@pytest.fixture
def ends(far: socket.socket, proxy: Proxy) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection through the proxy: the client's end and the broker's."""
    with closing(socket.create_connection((HOST, proxy.port), WAIT_S)) as near:
        accepted, _ = far.accept()
        accepted.settimeout(WAIT_S)
        with closing(accepted):
            accepted.sendall(PING)
            assert read(near, 2) == PING
            yield near, accepted


def read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def is_broken(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True


def test_in_fair_weather_everything_passes(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends

    near.sendall(ACKNOWLEDGEMENT + PING)

    assert read(far, 6) == ACKNOWLEDGEMENT + PING


def test_acknowledgements_come_late_and_the_rest_overtakes_them(
    proxy: Proxy, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    proxy.weather = Weather(ack_delay_s=0.05)

    near.sendall(ACKNOWLEDGEMENT + PING)

    assert read(far, 6) == PING + ACKNOWLEDGEMENT


def test_a_silent_network_swallows_what_is_sent(
    proxy: Proxy, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    proxy.weather = Weather(silent=True)
    near.sendall(ACKNOWLEDGEMENT)
    far.sendall(ACKNOWLEDGEMENT)
    proxy.cut()
    proxy.weather = FAIR

    assert is_broken(near)
    assert is_broken(far)


def test_a_cut_breaks_both_ends(proxy: Proxy, ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    proxy.cut()

    assert is_broken(near)
    assert is_broken(far)
