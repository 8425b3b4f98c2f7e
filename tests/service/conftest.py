"""A running appliance, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.broker import Mosquitto
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import client_of, push, serving
from tests.gate import POLICY, gate_settings


@pytest.fixture
def settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    return gate_settings(broker, tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[Session]:
    """A client of a running appliance that has a policy for the tenant `gate`."""
    with serving(settings), client_of(settings) as client:
        push(client, POLICY)
        yield client
