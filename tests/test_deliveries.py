"""Deliveries: acknowledged in order, once, and only when all is done."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.deliveries import Deliveries, Done


def received(deliveries: Deliveries, packet_id: int, *, duplicate: bool = False) -> int:
    number = deliveries.receive(packet_id, duplicate=duplicate)
    assert number is not None
    return number


def test_a_delivery_waits_for_both_its_reply_and_its_row() -> None:
    deliveries = Deliveries()
    number = received(deliveries, 7)

    deliveries.mark(number, Done.PUBLISHED)
    early = deliveries.take_acknowledgeable()
    deliveries.mark(number, Done.LOGGED)

    assert early == []
    assert deliveries.take_acknowledgeable() == [7]
    assert len(deliveries) == 0


def test_acknowledgements_leave_in_the_order_of_receipt() -> None:
    deliveries = Deliveries()
    first, second, third = (received(deliveries, packet_id) for packet_id in (5, 9, 2))

    deliveries.mark(third, Done.BOTH)
    deliveries.mark(second, Done.BOTH)
    held_back = deliveries.take_acknowledgeable()
    deliveries.mark(first, Done.BOTH)

    assert held_back == []
    assert deliveries.take_acknowledgeable() == [5, 9, 2]


def test_what_is_delivered_again_after_a_reconnect_is_not_handed_on_again() -> None:
    deliveries = Deliveries()
    number = received(deliveries, 7)
    deliveries.disconnected()
    deliveries.mark(number, Done.BOTH)
    while_away = deliveries.take_acknowledgeable()

    deliveries.connected(session_present=True)
    again = deliveries.receive(7, duplicate=True)

    assert while_away == []
    assert again is None
    assert deliveries.take_acknowledgeable() == [7]


def test_without_the_old_session_nothing_is_waited_for() -> None:
    deliveries = Deliveries()
    received(deliveries, 7)

    deliveries.disconnected()
    deliveries.connected(session_present=False)

    assert len(deliveries) == 0
    assert received(deliveries, 7) == 2


def test_a_packet_id_that_the_broker_uses_anew_is_a_new_delivery() -> None:
    deliveries = Deliveries()
    old = received(deliveries, 7)
    deliveries.disconnected()
    deliveries.connected(session_present=True)

    new = received(deliveries, 7)
    deliveries.mark(old, Done.BOTH)

    assert deliveries.take_acknowledgeable() == []
    deliveries.mark(new, Done.BOTH)
    assert deliveries.take_acknowledgeable() == [7]


class BrokerAndAppliance(RuleBasedStateMachine):
    """A broker that keeps what is not acknowledged, and sends it again after a reconnect."""

    def __init__(self) -> None:
        super().__init__()
        self.deliveries = Deliveries()
        self.next_packet_id = 1
        self.unacknowledged: list[int] = []
        self.to_send_again: list[int] = []
        self.order: list[int] = []
        self.numbers: dict[int, int] = {}
        self.done: dict[int, Done] = {}

    @precondition(lambda self: not self.to_send_again)
    @rule()
    def deliver(self) -> None:
        packet_id, self.next_packet_id = self.next_packet_id, self.next_packet_id + 1
        number = self.deliveries.receive(packet_id, duplicate=False)
        assert number is not None
        assert number not in self.done
        self.numbers[packet_id] = number
        self.done[number] = Done.NOTHING
        self.unacknowledged.append(packet_id)
        self.order.append(packet_id)

    @precondition(lambda self: self.to_send_again)
    @rule()
    def deliver_again(self) -> None:
        packet_id = self.to_send_again.pop(0)
        assert self.deliveries.receive(packet_id, duplicate=True) is None
        self.order.append(packet_id)
        self.acknowledge()

    @rule(choice=st.randoms(), done=st.sampled_from([Done.PUBLISHED, Done.LOGGED]))
    def finish(self, choice: object, done: Done) -> None:
        if self.unacknowledged:
            packet_id = choice.choice(self.unacknowledged)  # type: ignore[attr-defined]
            number = self.numbers[packet_id]
            self.deliveries.mark(number, done)
            self.done[number] |= done
            self.acknowledge()

    def acknowledge(self) -> None:
        for packet_id in self.deliveries.take_acknowledgeable():
            assert self.order.pop(0) == packet_id
            assert self.done[self.numbers[packet_id]] == Done.BOTH
            self.unacknowledged.remove(packet_id)

    @rule()
    def reconnect(self) -> None:
        self.deliveries.disconnected()
        assert self.deliveries.take_acknowledgeable() == []
        self.deliveries.connected(session_present=True)
        self.to_send_again = list(self.unacknowledged)
        self.order.clear()

    @invariant()
    def what_is_open_is_what_the_broker_waits_for(self) -> None:
        assert len(self.deliveries) == len(self.unacknowledged)


BrokerAndAppliance.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBrokerAndAppliance = BrokerAndAppliance.TestCase
