"""Requests, pushes, results and rejections, as they stand on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter

from appliance.errors import Problem, Rejected


class Status(str, Enum):
    """How an appliance stands, as its status topic says."""

    ONLINE = "online"
    STOPPED = "stopped"
    """It was told to."""
    OFFLINE = "offline"
    """It vanished, and the broker says so in its place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Who asks, since when, and where the reply goes; the frame itself travels beside it."""

    id: str
    tenant: str
    stream: str | None
    received_s: float
    """When it arrived, in monotonic seconds."""
    arrived_at_s: float
    """When it arrived, in seconds since the epoch."""
    reply_topic: str
    correlation: bytes | None = None
    expires_s: float | None = None
    """When nobody waits for the reply any more, in monotonic seconds."""
    qos: int = 0
    delivery: int = 0
    """The gateway's number for this delivery, with which its acknowledgement is asked for."""
    packet_id: int = 0
    """The broker's number for it, which a redelivery carries again; 0 for QoS 0."""
    redelivered: bool = False
    """Whether the broker says that it may have delivered it before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestKey:
    """What makes two deliveries the same request.

    `correlation` is the client's own mark. A request without one is known by the broker's
    `packet_id`, which means something only until it is acknowledged and is then used again.
    """

    tenant: str
    digest: bytes
    correlation: bytes | None = None
    packet_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A request and its frame, as the gateway hands them over."""

    request: Request
    payload: bytes | bytearray
    content_type: str | None = None
    refusal: Rejected | None = None
    """Why the gateway itself turns it away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyPush:
    """A policy document as a fleet manager published it; an empty one removes the policy."""

    tenant: str
    document: bytes
    retained: bool
    delivery: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandPush:
    """A command to this appliance as a fleet manager published it."""

    payload: bytes
    delivery: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One of the classes that an exit found most likely."""

    label: str
    index: int
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """An answer. Times in ms and energy in mJ, as people read them."""

    status: Literal["ok"] = "ok"
    id: str
    tenant: str
    stream: str | None
    engine: str
    exit: int
    label: str
    index: int
    confidence: float
    top: tuple[Candidate, ...]
    response_time_ms: float
    queue_time_ms: float
    energy_mj: float | None
    energy_source: str
    accuracy: float | None
    stopped_by: str
    unmet: tuple[str, ...]
    policy_version: int
    mode: str | None
    appliance: str
    arrived_at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A request that got no answer, why, and what to do about it."""

    status: Literal["rejected"] = "rejected"
    id: str
    tenant: str
    stream: str | None
    code: int
    reason: str
    detail: str
    appliance: str
    arrived_at: str
    policy_version: int | None = None
    retry_at: str | None = None
    """From when on there is energy for it again, where that is what it lacked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitOutlook:
    """What a policy's state says of one exit: its cost for a request that waits for nothing."""

    exit: int
    response_time_ms: float | None
    energy_mj: float | None
    accuracy: float | None
    reachable: bool
    dominated: bool
    broken: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRejection:
    """Why a pushed policy was turned away; what was in force still is."""

    code: int
    reason: str
    detail: str
    rejected_at: str
    version: int | None = None
    errors: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyState:
    """What is in force for a tenant on one appliance: the reported half of the policy."""

    tenant: str
    appliance: str
    version: int | None
    engine: str | None = None
    accepted_at: str | None = None
    feasibility: tuple[ExitOutlook, ...] = ()
    conflicts: tuple[str, ...] = ()
    out_of_service: str | None = None
    """Why requests get no answer although a policy was accepted, and what to do."""
    last_rejection: PolicyRejection | None = None
    document: str | None = None
    """The text of the policy in force, as it was pushed."""


Reply = Result | Rejection

REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Discriminator("status")])
"""Reads and writes a reply as JSON: `REPLY.dump_json(reply)`, `REPLY.validate_json(payload)`."""

POLICY_STATE: TypeAdapter[PolicyState] = TypeAdapter(PolicyState)
