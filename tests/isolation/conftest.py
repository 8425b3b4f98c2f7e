"""One broker whose users have roles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.acl import acl, users
from appliance.broker import Mosquitto
from appliance.roster import parse_roster
from appliance.topics import Topics
from tests.isolation.roster import PREFIX, ROSTER, password


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One broker for the whole module, whose users are those of `ROSTER`."""
    everybody = users(parse_roster(ROSTER), Topics(PREFIX))
    passwords = {user.name: password(user.name) for user in everybody}
    folder = tmp_path_factory.mktemp("guarded")
    with Mosquitto(folder=folder, users=passwords, acl=acl(everybody)) as broker:
        yield broker
