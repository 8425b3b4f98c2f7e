"""The parser of topics, and where a reply may go.

The first line is the topic of a request, a second one its Response Topic.
"""

from __future__ import annotations

import random

from appliance.errors import Rejected
from appliance.topics import Address, Topics, Verb
from tests.fuzz import flat
from tests.fuzz.target import Target

_TOPICS = Topics("delen/v1")

_LEVELS = (
    "delen", "v1", "appliances", "request", "result", "policy", "set", "state", "command", "+",
    "#", "$SYS",
    "", "..", "é", "e\u0301", "\u202e", "\ufeff", "\ue000", "\0", "\n", "\U0001f600",
    "gate-camera", "x" * 129,
)  # fmt: skip


def check(data: bytes) -> None:
    """An address leads back to its topic, and a reply stays among the tenant's own results."""
    topic, _, response = data.decode("utf-8", "replace").partition("\n")
    address = _TOPICS.parse(topic)
    if address is None:
        return
    assert _topic(address) == topic
    if address.verb is not Verb.REQUEST:
        return
    try:
        reply = _TOPICS.reply(address.tenant, address.stream, response or None)
    except Rejected:
        return
    own = _TOPICS.result(address.tenant)
    assert reply == own or reply.startswith(f"{own}/")
    assert not set("+#\0") & set(reply)


def _topic(address: Address) -> str:
    match address.verb:
        case Verb.REQUEST:
            return _TOPICS.request(address.tenant, address.stream)
        case Verb.POLICY_SET:
            return _TOPICS.policy_set(address.tenant)
        case Verb.COMMAND:
            return _TOPICS.appliance_command(address.tenant)


def relevel(data: bytes, rng: random.Random) -> bytes:
    """A topic with a level changed, gone or come in between."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    levels = lines[at].split(b"/")
    place = rng.randrange(len(levels))
    level = rng.choice(_LEVELS).encode("utf-8", "surrogatepass")
    levels[place : place + rng.randrange(2)] = [level] * rng.randrange(3)
    lines[at] = b"/".join(levels)
    return b"\n".join(lines)


TOPICS = Target(name="topics", check=check, mutations=(relevel, relevel, relevel, *flat.FLAT))
