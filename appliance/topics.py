"""The topic tree: a function per topic, and its inverse."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum

from appliance.errors import Code, Rejected

RESERVED = "appliances"
"""The level where the appliances' own topics live."""

RESERVED_NAMES = (RESERVED, "appliance", "fleet", "viewer")
"""No tenants' names: that level, and the broker's users that are no tenants."""

MAX_LEVEL_BYTES = 128

MAX_REPLY_LEVELS = 8
"""How deep below its results a tenant may be replied to. Mosquitto ends the connection of whoever
publishes on more than 200 levels, which is what a Response Topic could have the appliance do."""


class Verb(Enum):
    """What a message that the appliance receives is for."""

    REQUEST = "request"
    POLICY_SET = "policy/set"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a received message was published."""

    verb: Verb
    tenant: str
    """The tenant; for a command, the appliance."""
    stream: str | None = None


def level_fault(name: str) -> str | None:
    """Why a text cannot be one level of a topic (a stream, an appliance), or None."""
    if not name:
        return "it is empty"
    if len(name.encode(errors="replace")) > MAX_LEVEL_BYTES:
        return f"it is longer than {MAX_LEVEL_BYTES} bytes"
    if name.startswith("$"):
        return "it starts with `$`, which brokers keep for themselves"
    for character in name:
        if character in "/+#":
            return f"`{character}` has a meaning in topics"
        # Control and format characters, line ends, blanks but the plain one, surrogates and
        # private use: not seen, so easily mistaken.
        if not character.isprintable():
            return f"it holds the unprintable character U+{ord(character):04X}"
    if name != name.strip():
        return "it starts or ends with a blank, which brokers' files do not keep"
    if not unicodedata.is_normalized("NFC", name):
        return "it is written in another form than NFC, and looks like a name that is"
    return None


def tenant_fault(name: str) -> str | None:
    """Why a text cannot be a tenant's name, or None."""
    if name in RESERVED_NAMES:
        return f"`{name}` is reserved for the appliances and those who manage them"
    return level_fault(name)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics below one prefix, such as `delen/v1`."""

    prefix: str

    def request(self, tenant: str, stream: str | None = None) -> str:
        return self._join(tenant, "request", stream)

    def result(self, tenant: str, stream: str | None = None) -> str:
        return self._join(tenant, "result", stream)

    def policy_set(self, tenant: str) -> str:
        return self._join(tenant, "policy", "set")

    def policy_state(self, tenant: str, appliance: str) -> str:
        return self._join(tenant, "policy", "state", appliance)

    def telemetry(self, tenant: str, appliance: str) -> str:
        return self._join(tenant, "telemetry", appliance)

    def appliance_status(self, appliance: str) -> str:
        return self._join(RESERVED, appliance, "status")

    def appliance_telemetry(self, appliance: str) -> str:
        return self._join(RESERVED, appliance, "telemetry")

    def appliance_command(self, appliance: str) -> str:
        return self._join(RESERVED, appliance, "command")

    def every_request(self) -> str:
        """The filter for all tenants' requests, with a stream or without."""
        return self._join("+", "request", "#")

    def every_policy_set(self) -> str:
        """The filter for all tenants' policies."""
        return self._join("+", "policy", "set")

    def parse(self, topic: str) -> Address | None:
        """Whose topic this is and what for; None where it is none that the appliance reads."""
        if not topic.startswith(f"{self.prefix}/"):
            return None
        tenant, *rest = topic[len(self.prefix) + 1 :].split("/")
        if tenant == RESERVED:
            return _appliance_address(rest)
        if tenant_fault(tenant) is not None:
            return None
        match rest:
            case ["request"]:
                return Address(Verb.REQUEST, tenant)
            case ["request", stream] if level_fault(stream) is None:
                return Address(Verb.REQUEST, tenant, stream)
            case ["policy", "set"]:
                return Address(Verb.POLICY_SET, tenant)
            case _:
                return None

    def reply(self, tenant: str, stream: str | None, response_topic: str | None) -> str:
        """Where a reply goes: the tenant's Response Topic, or its result topic where it named none.

        The broker checks only what the appliance may publish, so that a Response Topic could make
        it speak in another tenant's name: one outside the requesting tenant's own results raises
        Rejected.
        """
        own = self.result(tenant)
        if response_topic is None:
            return self.result(tenant, stream)
        if response_topic == own:
            return own
        levels = response_topic.removeprefix(f"{own}/").split("/", MAX_REPLY_LEVELS - 1)
        if not response_topic.startswith(f"{own}/") or any(map(level_fault, levels)):
            raise Rejected(
                Code.FOREIGN_RESPONSE_TOPIC,
                f"a Response Topic must be {own} or at most {MAX_REPLY_LEVELS} levels below it,"
                " without wildcards",
            )
        return response_topic

    def _join(self, *levels: str | None) -> str:
        return "/".join((self.prefix, *(level for level in levels if level is not None)))


def _appliance_address(rest: list[str]) -> Address | None:
    match rest:
        case [appliance, "command"] if level_fault(appliance) is None:
            return Address(Verb.COMMAND, appliance)
        case _:
            return None
