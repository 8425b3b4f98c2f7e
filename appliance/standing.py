"""What holds until it is told otherwise, as rows: the policies, and what was commanded."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from sqlite_utils import Database

from appliance.database import writing

IN_FORCE = "replaced_s IS NULL AND removed_s IS NULL"
"""What in SQL is true of a policy that is in force."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPolicy:
    """A policy as it was accepted, and what became of it. Times in seconds since the epoch."""

    tenant: str
    version: int
    source: str
    """The document's own text."""
    digest: str
    """The SHA-256 of the text, in hexadecimal."""
    accepted_s: float
    replaced_s: float | None
    removed_s: float | None

    @property
    def in_force(self) -> bool:
        return self.replaced_s is None and self.removed_s is None


POLICY_COLUMNS = ", ".join(field.name for field in fields(StoredPolicy))


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The policies in force and the commands that hold, by tenant and by name."""

    policies: Mapping[str, StoredPolicy]
    commands: Mapping[str, str]


def read(connection: sqlite3.Connection) -> Standing:
    """What holds in a database."""
    policies = connection.execute(
        f"SELECT {POLICY_COLUMNS} FROM policies WHERE {IN_FORCE}"  # noqa: S608 - the names are ours, values are bound
    ).fetchall()
    names = [field.name for field in fields(StoredPolicy)]
    return Standing(
        policies={row[0]: StoredPolicy(**dict(zip(names, row, strict=True))) for row in policies},
        commands=dict(connection.execute("SELECT name, value FROM commands").fetchall()),
    )


def write(db: Database, standing: Standing, *, now_s: float) -> None:
    """Has a database say that this holds, and nothing else."""
    with writing(db):
        before = read(db.conn)
        for tenant in before.policies.keys() - standing.policies.keys():
            remove_policy(db, tenant=tenant, now_s=now_s)
        for policy in standing.policies.values():
            save_policy(db, policy=policy)
        for name in before.commands.keys() - standing.commands.keys():
            save_command(db, name=name, value=None)
        for name, value in standing.commands.items():
            save_command(db, name=name, value=value)


def save_policy(db: Database, *, policy: StoredPolicy) -> None:
    """Puts a policy in the place of its tenant's last one, unless it is in force already."""
    with writing(db):
        in_force = db.execute(
            f"SELECT version, digest FROM policies WHERE tenant = ? AND {IN_FORCE}",  # noqa: S608 - the names are ours, values are bound
            [policy.tenant],
        ).fetchone()
        if in_force == (policy.version, policy.digest):
            return
        db.execute(
            f"UPDATE policies SET replaced_s = ? WHERE tenant = ? AND {IN_FORCE}",  # noqa: S608 - the names are ours, values are bound
            [policy.accepted_s, policy.tenant],
        )
        db.table("policies").insert(asdict(policy))


def remove_policy(db: Database, *, tenant: str, now_s: float) -> None:
    """Takes a tenant's policy out of force."""
    with writing(db):
        db.execute(
            f"UPDATE policies SET removed_s = ? WHERE tenant = ? AND {IN_FORCE}",  # noqa: S608 - the names are ours, values are bound
            [now_s, tenant],
        )


def save_command(db: Database, *, name: str, value: str | None) -> None:
    """Keeps what a fleet manager said, or forgets it."""
    with writing(db):
        db.execute("DELETE FROM commands WHERE name = ?", [name])
        if value is not None:
            db.table("commands").insert({"name": name, "value": value})
