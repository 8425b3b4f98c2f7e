"""Reads the database while the store's writer works."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from typing_extensions import Self

from appliance import ledger, records
from appliance.database import open_for_reading, sentences
from appliance.ledger import BudgetState, LedgerRow
from appliance.messages import Reply, RequestKey
from appliance.standing import IN_FORCE, POLICY_COLUMNS, StoredPolicy

_PAGE_OF_ROWS = 500
_PAGE_OF_ARRIVALS = 10_000


class Reader:
    """Reads the database while the writer works, by a read-only connection of its own.

    It follows where another file takes the database's place. One thread at a time may use it.
    Making one raises StoreError where there is no database, and so does every method where it
    cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._open()

    def _open(self) -> None:
        file = _identity(self._path)
        self._connection = open_for_reading(self._path).conn
        self._connection.row_factory = sqlite3.Row
        self._file = file

    def _follow(self) -> None:
        """Goes on with the file that lies at the path now, where that is another."""
        if self._file is None or _identity(self._path) != self._file:
            self._connection.close()
            # Should that fail, the next file may well be given the number of the one that is gone.
            self._file = None
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def find(self, key: RequestKey) -> Reply | None:
        """What a request came to when it was last logged, None where it was not."""
        rows = self._rows(
            "SELECT * FROM inferences WHERE tenant = ? AND digest = ?"
            " AND correlation IS ? AND packet_id IS ? ORDER BY rowid DESC LIMIT 1",
            key.tenant,
            key.digest,
            key.correlation,
            key.packet_id,
        )
        return records.reply_of(rows[0]) if rows else None

    def inferences(
        self, *, tenant: str | None = None, since_s: float | None = None, limit: int | None = None
    ) -> Iterator[Reply]:
        """What was logged, by time of arrival: all of it, or the newest `limit`.

        `since_s` is in seconds since the epoch. No transaction stays open between two replies, so
        that a slow reader does not make the write-ahead log grow.
        """
        of_tenant, given = ("", ()) if tenant is None else ("tenant = ? AND", (tenant,))
        after = (-math.inf if since_s is None else since_s, 0)
        if limit is not None:
            next_older = self._rows(
                f"SELECT arrived_s, rowid FROM inferences WHERE {of_tenant} arrived_s >= ?"  # noqa: S608 - the names are ours, values are bound
                " ORDER BY arrived_s DESC, rowid DESC LIMIT 1 OFFSET ?",
                *given,
                after[0],
                limit,
            )
            after = tuple(next_older[0]) if next_older else after
        return map(records.reply_of, islice(self._rows_after(after, of_tenant, given), limit))

    def arrivals(self, *, since_s: float) -> Iterator[tuple[float, str]]:
        """When each request in the log arrived, in seconds since the epoch, and whose it was."""
        after = (since_s, 0)
        while page := self._rows(
            "SELECT arrived_s, rowid, tenant FROM inferences WHERE (arrived_s, rowid) > (?, ?)"
            " ORDER BY arrived_s, rowid LIMIT ?",
            *after,
            _PAGE_OF_ARRIVALS,
        ):
            for row in page:
                yield row["arrived_s"], row["tenant"]
            after = (page[-1]["arrived_s"], page[-1]["rowid"])

    def ledger(self, *, period_s: int, since_s: float = 0.0) -> list[LedgerRow]:
        """What every account came to, by periods of whole hours, oldest first."""
        rows = self._rows(ledger.select_rows(period_s), int(since_s))
        return [LedgerRow(**dict(row)) for row in rows]

    def budgets(self) -> list[BudgetState]:
        """How the budgets stood when they were last written."""
        return ledger.budget_states(self._rows(ledger.SELECT_BUDGETS))

    def command(self, name: str) -> str | None:
        """What a fleet manager last said, None for nothing."""
        rows = self._rows("SELECT value FROM commands WHERE name = ?", name)
        return rows[0]["value"] if rows else None

    def policies(self) -> list[StoredPolicy]:
        """The policies in force, one a tenant."""
        return self._policies(f"{IN_FORCE} ORDER BY tenant")

    def history(self, tenant: str) -> list[StoredPolicy]:
        """All that a tenant ever had, oldest first."""
        return self._policies("tenant = ? ORDER BY id", tenant)

    def known_tenants(self) -> frozenset[str]:
        """Who ever had a policy, in force or not."""
        return frozenset(row[0] for row in self._rows("SELECT DISTINCT tenant FROM policies"))

    def _policies(self, where: str, *values: object) -> list[StoredPolicy]:
        rows = self._rows(f"SELECT {POLICY_COLUMNS} FROM policies WHERE {where}", *values)  # noqa: S608 - the names are ours, values are bound
        return [StoredPolicy(**dict(row)) for row in rows]

    def _rows_after(
        self, after: tuple[float, int], of_tenant: str, given: tuple[str, ...]
    ) -> Iterator[sqlite3.Row]:
        while page := self._rows(
            f"SELECT *, rowid FROM inferences WHERE {of_tenant} (arrived_s, rowid) > (?, ?)"  # noqa: S608 - the names are ours, values are bound
            " ORDER BY arrived_s, rowid LIMIT ?",
            *given,
            *after,
            _PAGE_OF_ROWS,
        ):
            yield from page
            after = (page[-1]["arrived_s"], page[-1]["rowid"])

    def _rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        self._follow()
        with sentences("read", self._path):
            return self._connection.execute(statement, values).fetchall()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
