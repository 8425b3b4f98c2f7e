"""The energy ledger and the budgets' states as rows, there and back."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from appliance.energy import Spent
from appliance.messages import Reply, Result

HOUR_S, DAY_S = 3600, 86_400
MAX_AGE_S = 400 * DAY_S
"""The ledger is kept longer than the log: a year, and a month to look back on it."""

_ADD = (
    "INSERT INTO energy_ledger (account, hour_s, reported_j, measured_j, modelled_j)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (account, hour_s) DO UPDATE SET"
    " reported_j = reported_j + excluded.reported_j,"
    " measured_j = measured_j + excluded.measured_j,"
    " modelled_j = modelled_j + excluded.modelled_j"
)
_SAVE_BUDGET = (
    "INSERT INTO budgets (scope, tenant, started_s, spent_j) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (scope, tenant) DO UPDATE SET"
    " started_s = excluded.started_s, spent_j = excluded.spent_j"
)
_OWN, _DEVICE = "tenant", "device"


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetState:
    """A budget's period and what was spent in it; `tenant` is None for the device's whole."""

    tenant: str | None
    of_device: bool
    started_s: float
    """In seconds since the epoch."""
    spent_j: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounts:
    """What is to be written now and then: the charges since the last time, the budgets as they
    stand.
    """

    at_s: float
    """In seconds since the epoch."""
    charges: Mapping[str, Spent]
    budgets: tuple[BudgetState, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """What one account came to in one hour or day, in joules."""

    account: str
    """A tenant, or `$idle`, or `$unattributed`."""
    start_s: int
    """In seconds since the epoch."""
    reported_j: float
    """What the results said, so that it equals the log's sum."""
    measured_j: float
    """What was attributed of the meter's total; all accounts together make that up."""
    modelled_j: float
    """What was charged by the profile, while no meter could be read."""


@dataclass(slots=True)
class Reported:
    """Sums up what results say they cost, by tenant and hour of arrival."""

    joules: defaultdict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))

    def take(self, reply: Reply) -> None:
        if isinstance(reply, Result) and reply.energy_mj:
            hour_s = _hour_of(datetime.fromisoformat(reply.arrived_at).timestamp())
            self.joules[reply.tenant, hour_s] += reply.energy_mj * 1e-3

    def add_to(self, connection: sqlite3.Connection) -> None:
        rows = [(tenant, hour_s, j, 0.0, 0.0) for (tenant, hour_s), j in self.joules.items()]
        connection.executemany(_ADD, rows)


def write(connection: sqlite3.Connection, accounts: Accounts) -> None:
    """Adds charges to the ledger, and puts the budgets' states in place of the last ones."""
    hour_s = _hour_of(accounts.at_s)
    connection.executemany(
        _ADD,
        [
            (account, hour_s, 0.0, spent.measured_j, spent.modelled_j)
            for account, spent in accounts.charges.items()
        ],
    )
    connection.executemany(
        _SAVE_BUDGET,
        [
            (_DEVICE if b.of_device else _OWN, b.tenant or "", b.started_s, b.spent_j)
            for b in accounts.budgets
        ],
    )


def forget(connection: sqlite3.Connection, before_s: float) -> None:
    """Deletes the hours that began before a moment."""
    connection.execute("DELETE FROM energy_ledger WHERE hour_s < ?", [int(before_s)])


def select_rows(period_s: int) -> str:
    """The statement that gives the ledger from an hour on, summed up by periods of so long."""
    start = f"hour_s / {period_s} * {period_s}"
    return (
        f"SELECT account, {start} AS start_s, SUM(reported_j) AS reported_j,"  # noqa: S608 - the names are ours, values are bound
        " SUM(measured_j) AS measured_j, SUM(modelled_j) AS modelled_j"
        f" FROM energy_ledger WHERE hour_s >= ? GROUP BY account, {start} ORDER BY start_s, account"
    )


SELECT_BUDGETS = "SELECT scope, tenant, started_s, spent_j FROM budgets"


def budget_states(rows: Iterable[sqlite3.Row]) -> list[BudgetState]:
    """The budgets' states that the rows hold."""
    return [
        BudgetState(
            tenant=row["tenant"] or None,
            of_device=row["scope"] == _DEVICE,
            started_s=row["started_s"],
            spent_j=row["spent_j"],
        )
        for row in rows
    ]


def _hour_of(time_s: float) -> int:
    return int(time_s // HOUR_S) * HOUR_S
