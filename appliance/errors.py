"""What can go wrong: one base and a few children, whose sentences say what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """Why a frame or a policy is turned away; the numbers follow HTTP's meanings."""

    __str__ = int.__repr__  # as from Python 3.11 on

    MALFORMED = 400
    FOREIGN_RESPONSE_TOPIC = 403
    NOT_FOUND = 404
    EXPIRED = 408
    STALE_VERSION = 409
    TOO_LARGE = 413
    UNKNOWN_TYPE = 415
    INVALID_POLICY = 422
    TOO_MANY = 429
    ENGINE_FAILED = 500
    SHUTTING_DOWN = 503

    @property
    def reason(self) -> str:
        """The code in two or three words, as it stands in a rejection."""
        return _REASONS[self]


_REASONS = {
    Code.MALFORMED: "malformed frame",
    Code.FOREIGN_RESPONSE_TOPIC: "foreign response topic",
    Code.NOT_FOUND: "no policy or engine",
    Code.EXPIRED: "expired",
    Code.STALE_VERSION: "stale version",
    Code.TOO_LARGE: "too large",
    Code.UNKNOWN_TYPE: "unknown type",
    Code.INVALID_POLICY: "invalid policy",
    Code.TOO_MANY: "too many requests",
    Code.ENGINE_FAILED: "engine failed",
    Code.SHUTTING_DOWN: "shutting down",
}


class DelenError(Exception):
    """The base of every error that this project raises on purpose."""


KeyPath = tuple[str | int, ...]
"""Where in a document: keys and list indices from its top, such as ("modes", "saver", "bounds")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing wrong with a parsed value, before anyone knows on which line it stands."""

    path: KeyPath
    message: str


class Faulty(DelenError):
    """A parsed value breaks its rules in one place or several, all of them listed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = tuple(faults)


class Rejected(DelenError):
    """A frame or a policy is turned away: the code says why, the sentence says what to do."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing wrong with a document, and where: `path` like `bounds.energy`, lines from 1."""

    path: str
    line: int
    column: int
    message: str


class InvalidDocument(DelenError):
    """A policy or a conditions file is wrong in one place or several, all of them listed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"line {p.line}: {p.message}" for p in problems))
        self.problems = tuple(problems)


class EngineError(DelenError):
    """An engine folder cannot be used, or a stage of it failed."""


class EngineClosed(DelenError):
    """An engine is not open yet, or no more: it is being opened, and can be asked for then."""

    def __init__(self, engine: str, *, opens_in_s: float) -> None:
        super().__init__(f"the engine {engine} is being opened")
        self.engine = engine
        self.opens_in_s = opens_in_s
        """By how long it took when it last was; 0 where that is not known."""


class ModellingError(DelenError):
    """A dataset, a training run or an export cannot be used or brought to its end."""


class WorkloadError(DelenError):
    """A trace cannot be read, or does not fit the policies that it is played to."""


class SettingsError(DelenError):
    """The settings do not describe an appliance that can start."""


class StoreError(DelenError):
    """The database cannot be opened, read or written."""


class DatabaseInUse(StoreError):
    """An appliance runs on the database already."""


class DatabaseDamaged(StoreError):
    """What the database's file holds is no database of ours any more, though it was."""


class MeterError(DelenError):
    """A meter cannot be opened or read, or what it says is no reading."""


class BrokerError(DelenError):
    """The broker cannot be started or reached."""


class NoReply(BrokerError, TimeoutError):
    """Nobody has answered a frame in time, or its connection did not last."""


class FrameError(DelenError):
    """A frame cannot be read or made into bytes, so that nothing is sent."""


class ServiceError(DelenError):
    """The appliance cannot go on."""


class LoadError(DelenError):
    """A load cannot be put on an appliance, or cannot be brought to its end."""
