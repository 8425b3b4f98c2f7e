"""One browser for all pages, and a broker with scripted appliances for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.broker import Mosquitto
from appliance.fleet.reports import Received
from appliance.session import Session
from tests.appliances import address
from tests.conftest import StartBroker
from tests.page.browser import Browser

Say = Callable[..., None]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Without cookies, of the usual size; nothing may have gone wrong in it afterwards."""
    chromium.forget()
    chromium.size(1280, 1000)
    chromium.addresses()
    chromium.complaints()
    yield chromium
    chromium.open("about:blank")


@pytest.fixture
def own_broker(start_broker: StartBroker) -> Mosquitto:
    return start_broker()


@pytest.fixture
def say(own_broker: Mosquitto) -> Iterator[Say]:
    """Publishes what scripted appliances say."""
    with Session(address(own_broker)) as client:

        def publish(*messages: Received) -> None:
            for message in messages:
                client.publish(message.topic, message.payload, retain=message.retained)

        yield publish


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the dashboard runs: it has no engines and no database there."""
    return tmp_path
