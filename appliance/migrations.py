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


@MIGRATIONS()
def create_energy_ledger(db: Database) -> None:
    """What every account came to by the hour, and by the day; and how the budgets stand."""
    db.execute(
        "CREATE TABLE energy_ledger (account TEXT NOT NULL, hour_s INTEGER NOT NULL,"
        " reported_j REAL NOT NULL, measured_j REAL NOT NULL, modelled_j REAL NOT NULL,"
        " PRIMARY KEY (account, hour_s)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE VIEW energy_by_day AS SELECT account, hour_s / 86400 * 86400 AS day_s,"
        " SUM(reported_j) AS reported_j, SUM(measured_j) AS measured_j,"
        " SUM(modelled_j) AS modelled_j FROM energy_ledger GROUP BY account, day_s"
    )
    db.execute(
        "CREATE TABLE budgets (scope TEXT NOT NULL, tenant TEXT NOT NULL,"
        " started_s REAL NOT NULL, spent_j REAL NOT NULL, PRIMARY KEY (scope, tenant))"
        " WITHOUT ROWID"
    )
    # What was answered before there was a ledger is in it, too, so that it equals the log.
    db.execute(
        "INSERT INTO energy_ledger SELECT tenant, CAST(arrived_s / 3600 AS INTEGER) * 3600,"
        " SUM(energy_mj) / 1000, 0, 0 FROM inferences WHERE energy_mj IS NOT NULL GROUP BY 1, 2"
    )


@MIGRATIONS()
def add_when_to_retry(db: Database) -> None:
    """A rejection may say from when on the same request is worth another try."""
    db.execute("ALTER TABLE inferences ADD COLUMN retry_at TEXT")


@MIGRATIONS()
def create_commands(db: Database) -> None:
    """What fleet managers told the appliance that holds until they tell it otherwise."""
    db.execute("CREATE TABLE commands (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")


@MIGRATIONS()
def answer_once_without_an_index(db: Database) -> None:
    """Whoever writes looks a request up in `request_keys`: an index less to write to flash."""
    db.execute("DROP INDEX answered_once")


def known() -> frozenset[str]:
    """The names of all steps that this version knows."""
    with Database(memory=True) as empty:
        return frozenset(step.name for step in MIGRATIONS.pending(empty))
