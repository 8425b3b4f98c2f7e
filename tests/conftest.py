"""A real broker for the tests that need one, and how properties are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol

import hypothesis
import pytest

from appliance.broker import Mosquitto

# How long an example takes says nothing on a machine that others use, too.
hypothesis.settings.register_profile("delen", deadline=None)
hypothesis.settings.load_profile("delen")


class StartBroker(Protocol):
    """Starts a broker of the test's own, which ends with the test."""

    def __call__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        port: int | None = None,
        persistence: bool = False,
        max_packet_bytes: int | None = None,
    ) -> Mosquitto: ...


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One open broker for the whole session: tenants and client ids must be the test's own."""
    with Mosquitto(folder=tmp_path_factory.mktemp("broker")) as mosquitto:
        yield mosquitto


@pytest.fixture
def start_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBroker]:
    """For tests that need users, an ACL or a limit, or that kill their broker."""
    with ExitStack() as running:

        def start(
            *,
            users: Mapping[str, str] | None = None,
            acl: str | None = None,
            port: int | None = None,
            persistence: bool = False,
            max_packet_bytes: int | None = None,
        ) -> Mosquitto:
            return running.enter_context(
                Mosquitto(
                    folder=tmp_path_factory.mktemp("broker"),
                    users=users,
                    acl=acl,
                    port=port,
                    persistence=persistence,
                    max_packet_bytes=max_packet_bytes,
                )
            )

        yield start
