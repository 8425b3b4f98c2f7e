"""Messages on their way: bounded with QoS 0, and none lost sight of with QoS 1."""

from __future__ import annotations

from appliance.outgoing import MAX_UNSENT_BYTES, Outgoing

MEGABYTE = 1_000_000


def hand_over(outgoing: Outgoing, number: int, *, qos: int = 0, delivery: int = 0) -> bool:
    if not outgoing.may_begin(MEGABYTE, qos=qos):
        return False
    outgoing.handed_over(number, MEGABYTE, qos=qos, delivery=delivery)
    return True


def test_messages_of_qos_0_beyond_the_bound_are_dropped_and_counted() -> None:
    outgoing = Outgoing()

    taken = sum(hand_over(outgoing, number) for number in range(1, 101))

    assert taken == MAX_UNSENT_BYTES // MEGABYTE
    assert outgoing.unsent == 100 - taken
    assert len(outgoing) == taken


def test_what_is_sent_makes_room() -> None:
    outgoing = Outgoing()
    while hand_over(outgoing, len(outgoing) + 1):
        pass

    outgoing.sent(1)

    assert hand_over(outgoing, 100)
    assert not hand_over(outgoing, 101)


def test_a_broken_connection_loses_what_is_of_qos_0_alone() -> None:
    outgoing = Outgoing()
    hand_over(outgoing, 1)
    hand_over(outgoing, 2, qos=1, delivery=7)

    outgoing.disconnected()

    assert len(outgoing) == 1
    assert outgoing.sent(2) == 7


def test_a_message_of_qos_1_is_never_dropped() -> None:
    outgoing = Outgoing()

    taken = sum(hand_over(outgoing, number, qos=1, delivery=number) for number in range(1, 101))

    assert taken == 100


def test_a_message_that_is_out_before_its_number_is_known_is_noted_then() -> None:
    outgoing = Outgoing()
    outgoing.may_begin(10, qos=1)

    early = outgoing.sent(5)
    delivery = outgoing.handed_over(5, 10, qos=1, delivery=9)

    assert (early, delivery, len(outgoing)) == (0, 9, 0)
