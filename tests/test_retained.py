"""What the broker has retained, asked for on its own."""

from __future__ import annotations

import pytest

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.errors import BrokerError
from appliance.retained import retained_policies
from appliance.session import Session
from appliance.topics import Topics
from tests.appliances import address


def test_every_retained_policy_is_told_and_nothing_else(broker: Mosquitto) -> None:
    topics = Topics("retained")
    tenants = [f"t{number}" for number in range(100)]
    with Session(address(broker), prefix=topics.prefix) as client:
        for tenant in tenants:
            client.publish(topics.policy_set(tenant), tenant.encode(), retain=True)
        client.publish(topics.request("t0"), b"no policy", retain=True)

        found = retained_policies(address(broker), topics)

        for tenant in tenants:
            client.publish(topics.policy_set(tenant), b"", retain=True)
        client.publish(topics.request("t0"), b"", retain=True)
    assert found == {tenant: tenant.encode() for tenant in tenants}


def test_where_nothing_is_retained_nothing_is_told(broker: Mosquitto) -> None:
    assert retained_policies(address(broker), Topics("nothing")) == {}


def test_a_broker_that_is_away_is_said() -> None:
    nobody = BrokerAddress(host="127.0.0.1", port=1)

    with pytest.raises(BrokerError, match="does not tell what it has retained"):
        retained_policies(nobody, Topics("d"))
