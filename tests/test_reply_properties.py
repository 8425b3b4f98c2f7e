"""A reply's properties, packed by hand as paho would have packed them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance.reply_properties import ReplyProperties


@given(
    content_type=st.text("aé€/+;= ", max_size=200),
    correlation=st.none() | st.binary(max_size=300),
    expiry_s=st.none() | st.integers(1, 2**32 - 1),
    user=st.lists(st.tuples(st.text("aé€", max_size=9), st.text("aé€/", max_size=200))),
)
def test_what_is_packed_is_read_back_by_paho(
    content_type: str, correlation: bytes | None, expiry_s: int | None, user: list[tuple[str, str]]
) -> None:
    packed = ReplyProperties(
        content_type=content_type, correlation=correlation, expiry_s=expiry_s, user=user
    ).pack()

    read = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    _, length = read.unpack(packed)  # type: ignore[no-untyped-call]
    assert length == len(packed)
    assert getattr(read, "ContentType", None) == content_type
    assert getattr(read, "CorrelationData", None) == correlation
    assert getattr(read, "MessageExpiryInterval", None) == expiry_s
    assert getattr(read, "UserProperty", []) == user
