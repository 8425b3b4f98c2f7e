"""What happened under a schedule, as seen from outside: what the checker judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.ledger import LedgerRow
from appliance.messages import Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A request of QoS 1 as its sensor knows it. Times in seconds since the epoch."""

    tenant: str
    stream: str
    correlation: bytes | None
    reply_topic: str
    published_s: float
    acknowledged_s: float | None
    """When the broker's acknowledgement came; None for none, and then nothing was promised."""
    transmissions: int = 1
    """How often the sensor may have sent it, over connections that broke."""
    tolerated: frozenset[int] = frozenset()
    """Codes with which it may be rejected."""
    expires: bool = False
    """Whether it may be dropped, since it said for how long it is worth an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """A reply as somebody heard it who listens to all topics."""

    topic: str
    tenant: str
    """Whose topic it is."""
    correlation: bytes | None
    reply: Reply
    at_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A reply in the log."""

    reply: Reply
    correlation: bytes | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """A policy as its fleet manager pushed it."""

    tenant: str
    version: int
    valid: bool
    acknowledged_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a policy state said: the version in force, and how it was with the last push."""

    tenant: str
    version: int | None
    unable: bool = False
    """Whether the last push was turned away for what the appliance could not do at that time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Joules:
    """The energy since the start, as the appliance's telemetry told it once."""

    tenants_j: float
    idle_j: float
    unattributed_j: float
    integrated_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """The broker was killed: what it acknowledged after it last saved is gone with it."""

    saved_s: float
    killed_s: float

    def covers(self, acknowledged_s: float) -> bool:
        return self.saved_s <= acknowledged_s <= self.killed_s


@dataclass(frozen=True, kw_only=True)
class History:
    """All of it."""

    sent: Sequence[Sent]
    heard: Sequence[Heard]
    rows: Sequence[Row]
    pushes: Sequence[Push]
    told: Sequence[Told]
    in_force: Mapping[str, int]
    """By tenant, the version that the database says is in force."""
    joules: Sequence[Joules]
    ledger: Sequence[LedgerRow]
    forgotten: Sequence[Forgotten] = ()
    rows_lost_until_s: float = float("-inf")
    """When the log last began anew, since its file was damaged."""
    appliance_killed: bool = False
    ended: bool = False
    """Whether the appliance was told to end, and has written all that it will."""

    def promised(self, acknowledged_s: float | None) -> bool:
        """Whether what was acknowledged then is the broker's to deliver still."""
        return acknowledged_s is not None and not any(
            gap.covers(acknowledged_s) for gap in self.forgotten
        )
