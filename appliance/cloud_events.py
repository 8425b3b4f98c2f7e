"""A reply as a CloudEvent in binary mode: its attributes as MQTT 5 user properties.

CloudEvents 1.0.2 and its MQTT protocol binding, 3.1: `datacontenttype` is MQTT's own Content Type,
every other attribute a user property of its name.
"""

from __future__ import annotations

from urllib.parse import quote

from appliance.messages import Reply, Result

SPECVERSION = "1.0"
RESULT, REJECTION = "delen.result", "delen.rejection"
TYPES = (RESULT, REJECTION)


def attributes_of(reply: Reply) -> tuple[tuple[str, str], ...]:
    """The attributes of a reply; one that is sent twice has the same `source` and `id`."""
    subject = reply.tenant if reply.stream is None else f"{reply.tenant}/{reply.stream}"
    return (
        ("specversion", SPECVERSION),
        ("id", reply.id),
        ("source", f"urn:delen:appliance:{quote(reply.appliance, safe='')}"),
        ("type", RESULT if isinstance(reply, Result) else REJECTION),
        ("time", reply.arrived_at),
        ("subject", subject),
    )
