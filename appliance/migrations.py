"""The database's schema, as small steps in order; none is edited once it was released."""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS = Migrations("delen")

APPLICATION_ID = 0x44454C4E
"""What marks a SQLite file as ours: `DELN`."""


@MIGRATIONS()
def create_inferences(db: Database) -> None:
    """The log of what was answered and rejected: the columns named as on the wire, and a few."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.table("inferences").create(
        {
            "id": str,
            "tenant": str,
            "stream": str,
            "status": str,
            "engine": str,
            "exit": int,
            "label": str,
            "index": int,
            "confidence": float,
            "top": str,
            "response_time_ms": float,
            "queue_time_ms": float,
            "energy_mj": float,
            "energy_source": str,
            "accuracy": float,
            "stopped_by": str,
            "unmet": str,
            "policy_version": int,
            "mode": str,
            "appliance": str,
            "arrived_at": str,
            "code": int,
            "reason": str,
            "detail": str,
            "arrived_s": float,
            "digest": bytes,
            "correlation": bytes,
            "packet_id": int,
        },
        pk="id",
        not_null={"id", "tenant", "status", "appliance", "arrived_at", "arrived_s"},
    )
    db.table("inferences").create_index(["arrived_s"])
    db.table("inferences").create_index(["tenant", "arrived_s"])


@MIGRATIONS()
def index_request_keys(db: Database) -> None:
    """A request is found by its key, and answered once; what was rejected may be tried again."""
    db.execute(
        "CREATE INDEX request_keys ON inferences (tenant, digest, correlation, packet_id)"
        " WHERE digest IS NOT NULL"
    )
    db.execute(
        "CREATE UNIQUE INDEX answered_once ON inferences (tenant, digest, correlation)"
        " WHERE correlation IS NOT NULL AND status = 'ok'"
    )


@MIGRATIONS()
def create_policies(db: Database) -> None:
    """Each tenant's policies as they were accepted; the one that nothing ended is in force."""
    db.table("policies").create(
        {
            "id": int,
            "tenant": str,
            "version": int,
            "source": str,
            "digest": str,
            "accepted_s": float,
            "replaced_s": float,
            "removed_s": float,
        },
        pk="id",
        not_null={"tenant", "version", "source", "digest", "accepted_s"},
    )
    db.execute(
        "CREATE UNIQUE INDEX policies_in_force ON policies (tenant)"
        " WHERE replaced_s IS NULL AND removed_s IS NULL"
    )
    db.table("policies").create_index(["tenant", "accepted_s"])


def known() -> frozenset[str]:
    """The names of all steps that this version knows."""
    with Database(memory=True) as empty:
        return frozenset(step.name for step in MIGRATIONS.pending(empty))
