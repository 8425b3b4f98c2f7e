"""A session's subscriptions, at a real broker."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from appliance.broker import Mosquitto
from appliance.session import Session
from tests.appliances import WAIT_S, address


def test_what_a_group_shares_comes_to_one_of_it(broker: Mosquitto) -> None:
    heard: SimpleQueue[tuple[str, bytes]] = SimpleQueue()

    with Session(address(broker)) as first, Session(address(broker)) as second:
        for session in (first, second):
            session.watch(
                "$share/readers/shared/+", lambda topic, said, _: heard.put((topic, said))
            )
        for number in range(10):
            first.publish(f"shared/{number}", b"once")
        arrived = {heard.get(timeout=WAIT_S) for _ in range(10)}

        assert arrived == {(f"shared/{number}", b"once") for number in range(10)}
        assert heard.empty()


def test_what_is_no_filter_is_not_asked_for_again(broker: Mosquitto) -> None:
    with Session(address(broker)) as session:
        with pytest.raises(ValueError, match="Invalid subscription filter"):
            session.watch("still/#/here", lambda *_: None)
        session.watch("still/here", lambda *_: None)

        assert list(session._watches) == ["still/here"]  # noqa: SLF001 - what is asked for again
