"""Stores for the tests, and replies to log in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from appliance.messages import Candidate, Rejection, Reply, RequestKey, Result
from appliance.reader import Reader
from appliance.store import Store
from tests.waiting import wait_until

NOW_S = 1_790_000_000.0
DAY_S = 86_400.0
RESULT = Result(
    id="r0",
    tenant="gate",
    stream="left",
    engine="digits",
    exit=1,
    label="seven",
    index=7,
    confidence=0.93,
    top=(
        Candidate(label="seven", index=7, confidence=0.93),
        Candidate(label="one", index=1, confidence=0.05),
    ),
    response_time_ms=12.5,
    queue_time_ms=0.5,
    energy_mj=3.25,
    energy_source="modelled",
    accuracy=0.95,
    stopped_by="condition",
    unmet=("energy",),
    policy_version=3,
    mode=None,
    appliance="box",
    arrived_at="2026-09-21T14:13:20.000+00:00",
)


REJECTION = Rejection(
    id="j0",
    tenant="gate",
    stream=None,
    code=415,
    reason="unknown type",
    detail="text/html is no frame",
    appliance="box",
    arrived_at="2026-09-21T14:13:20.000+00:00",
)


KEY = RequestKey(tenant="gate", digest=b"digest", correlation=b"1")


def result(number: int, *, tenant: str = "gate", arrived_s: float = NOW_S) -> Result:
    arrived_at = datetime.fromtimestamp(arrived_s, timezone.utc).isoformat(timespec="milliseconds")
    return replace(RESULT, id=f"r{number}", tenant=tenant, arrived_at=arrived_at)


@dataclass
class Gateway:
    """Stands where the gateway stands: it hears what was logged, and would acknowledge it."""

    heard: list[tuple[int, RequestKey | None, Reply]] = field(default_factory=list)

    def logged(self, delivery: int, key: RequestKey | None, reply: Reply) -> None:
        self.heard.append((delivery, key, reply))

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.heard) >= count)


@contextmanager
def opened(
    path: Path,
    gateway: Gateway | None = None,
    *,
    max_age_s: float = 30 * DAY_S,
    max_bytes: int = 100_000_000,
) -> Iterator[Store]:
    listener = (gateway or Gateway()).logged
    with Store(
        path, max_age_s=max_age_s, max_bytes=max_bytes, on_logged=listener, clock=lambda: NOW_S
    ) as store:
        yield store


def log_all(path: Path, *replies: Reply, key: RequestKey | None = None) -> None:
    with opened(path) as store:
        for reply in replies:
            store.log(reply, delivery=0, key=key)


def logged(path: Path) -> list[Reply]:
    with Reader(path) as reader:
        return list(reader.inferences())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the database, and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
