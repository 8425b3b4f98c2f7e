"""What appliances publish, read at the door: a typed report, or a sentence why it is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from appliance.errors import DelenError
from appliance.messages import POLICY_STATE, REPLY, PolicyState, Reply
from appliance.telemetry import (
    APPLIANCE_TELEMETRY,
    TENANT_TELEMETRY,
    ApplianceTelemetry,
    TenantTelemetry,
)
from appliance.topics import RESERVED, level_fault

MAX_BYTES = 256 * 1024
"""The largest report that is read, a policy's state: a policy of full length, escaped, fits in."""

MAX_TELEMETRY_BYTES = 64 * 1024
MAX_REPLY_BYTES = 32 * 1024

MAX_ENTRIES = 1024
"""How many rails, exits or tenants one report may list."""

MAX_EXITS = 64
_MAX_FIGURE = 1e15

T = TypeVar("T")


class Unreadable(DelenError):
    """A message that is no report; the sentence says what is wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A message as the broker delivered it."""

    topic: str
    payload: bytes
    retained: bool = False
    """Whether the broker had kept it, so that it may be old."""


class Status(str, Enum):
    """What an appliance, or the broker in its stead, says of it."""

    ONLINE = "online"
    STOPPED = "stopped"
    """It was told to."""
    OFFLINE = "offline"
    """It vanished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusReport:
    appliance: str
    status: Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """Somebody took an appliance's retained status away: there is no such appliance any more."""

    appliance: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """A tenant's policy was removed from an appliance."""

    tenant: str
    appliance: str


TenantReport = TenantTelemetry | PolicyState | Removal | Reply
Report = (
    StatusReport | Departure | ApplianceTelemetry | TenantTelemetry | PolicyState | Removal | Reply
)


def read_report(message: Received, *, prefix: str) -> Report:
    """The report in a message. Raises Unreadable."""
    if not message.topic.startswith(f"{prefix}/"):
        raise Unreadable(f"its topic is not below {prefix}")
    _check_length(message, MAX_BYTES)
    match message.topic[len(prefix) + 1 :].split("/"):
        case [reserved, appliance, "status"] if reserved == RESERVED:
            return _status(_level(appliance), message.payload)
        case [reserved, appliance, "telemetry"] if reserved == RESERVED:
            _check_length(message, MAX_TELEMETRY_BYTES)
            report = _read(APPLIANCE_TELEMETRY, message.payload)
            return _of(report, appliance=_level(appliance))
        case [tenant, "telemetry", appliance]:
            _check_length(message, MAX_TELEMETRY_BYTES)
            reading = _read(TENANT_TELEMETRY, message.payload)
            _exits(reading.exits)
            return _of(reading, appliance=_level(appliance), tenant=_level(tenant))
        case [tenant, "policy", "state", appliance]:
            names = {"tenant": _level(tenant), "appliance": _level(appliance)}
            if not message.payload:
                return Removal(**names)
            return _of(_read(POLICY_STATE, message.payload), **names)
        case [tenant, "result", *_]:
            _check_length(message, MAX_REPLY_BYTES)
            return _of(_read(REPLY, message.payload), tenant=_level(tenant))
        case _:
            raise Unreadable("nothing that an appliance reports has such a topic")


def _check_length(message: Received, most_bytes: int) -> None:
    if len(message.payload) > most_bytes:
        raise Unreadable(f"it is longer than {most_bytes} bytes")


def _status(appliance: str, payload: bytes) -> StatusReport | Departure:
    if not payload:
        return Departure(appliance=appliance)
    try:
        return StatusReport(appliance=appliance, status=Status(payload.decode()))
    except ValueError:
        known = ", ".join(status.value for status in Status)
        raise Unreadable(f"a status is one of {known}") from None


def _level(name: str) -> str:
    fault = level_fault(name)
    if fault is not None:
        raise Unreadable(f"a level of its topic is no name: {fault}")
    return name


def _read(adapter: TypeAdapter[T], payload: bytes) -> T:
    try:
        report = adapter.validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unreadable(f"{place}: {first['msg']}" if place else first["msg"]) from None
    _check(report, "")
    return report


def _check(value: object, place: str) -> None:
    """Raises Unreadable for figures that are none, and for lists without end."""
    if isinstance(value, float):
        if not math.isfinite(value) or abs(value) > _MAX_FIGURE:
            raise Unreadable(f"{place}: {value} is no figure that can be shown")
    elif isinstance(value, int) and abs(value) > _MAX_FIGURE:
        raise Unreadable(f"{place}: a number of more than 15 digits cannot be shown")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check(getattr(value, field.name), f"{place}.{field.name}".lstrip("."))
    elif isinstance(value, Mapping | tuple):
        if len(value) > MAX_ENTRIES:
            raise Unreadable(f"{place}: it lists more than {MAX_ENTRIES}")
        for item in value.values() if isinstance(value, Mapping) else value:
            _check(item, place)


def _exits(exits: Mapping[str, int]) -> None:
    for name, count in exits.items():
        if not (name.isascii() and name.isdigit() and int(name) < MAX_EXITS and count >= 0):
            raise Unreadable("exits: they are counted from 0 on, and so are their answers")


def _of(report: T, **names: str) -> T:
    for field, name in names.items():
        said = getattr(report, field)
        if said != name:
            raise Unreadable(f"it names the {field} {said!r} on a topic of {name!r}")
    return report
