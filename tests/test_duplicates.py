"""Duplicates: which deliveries are the same request."""

from __future__ import annotations

from dataclasses import replace

from appliance.duplicates import InHand, key_of, may_be_logged, new_id
from appliance.messages import RequestKey
from tests.factories import a_request


def test_ids_grow_with_time_and_are_never_the_same() -> None:
    ids = [new_id(1_790_000_000.0 + number / 1e3) for number in range(1000)]

    assert sorted(ids) == ids
    assert len({new_id(0.0) for _ in range(1000)}) == 1000
    assert {len(one) for one in [*ids, new_id(0.0), new_id(1e300)]} == {32}


def test_the_same_mark_on_the_same_frame_is_the_same_request() -> None:
    first = a_request("1", correlation=b"x", qos=1, packet_id=1)
    again = a_request("2", correlation=b"x", qos=1, packet_id=2)

    assert key_of(first, b"frame") == key_of(again, b"frame")


def test_another_frame_stream_mark_or_tenant_is_another_request() -> None:
    request = a_request(correlation=b"x", qos=1)
    key = key_of(request, b"frame")

    assert key_of(request, b"other") != key
    assert key_of(replace(request, stream="s"), b"frame") != key
    assert key_of(replace(request, correlation=b"y"), b"frame") != key
    assert key_of(replace(request, tenant="other"), b"frame") != key


def test_without_a_mark_the_brokers_packet_id_tells() -> None:
    request = a_request(qos=1, packet_id=7)

    key = key_of(request, b"frame")

    assert key is not None
    assert (key.correlation, key.packet_id) == (None, 7)
    assert not may_be_logged(request)
    assert may_be_logged(replace(request, redelivered=True))


def test_a_request_of_qos_0_without_a_mark_has_no_key() -> None:
    assert key_of(a_request(), b"frame") is None


def test_who_comes_second_waits_for_the_first() -> None:
    in_hand, key = InHand(), RequestKey(tenant="gate", digest=b"d", correlation=b"x")
    first, second = a_request("1"), a_request("2")

    entered = [in_hand.enter(key, first), in_hand.enter(key, second)]

    assert entered == [True, False]
    assert in_hand.leave(key) == [second]
    assert in_hand.leave(key) == []
    assert in_hand.enter(key, first)
