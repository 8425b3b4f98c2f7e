"""Replies as rows of the inference log, there and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from appliance.messages import Candidate, Rejection, Reply, RequestKey, Result

_KINDS: Mapping[str, type[Result | Rejection]] = {"ok": Result, "rejected": Rejection}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS.values()}
_AS_JSON: Mapping[str, TypeAdapter[Any]] = {
    "top": TypeAdapter(tuple[Candidate, ...]),
    "unmet": TypeAdapter(tuple[str, ...]),
}

REPLY_COLUMNS = tuple(dict.fromkeys((*_FIELDS[Result], *_FIELDS[Rejection])))
"""The columns that hold a reply, named as on the wire."""

_KEY_COLUMNS = ("digest", "correlation", "packet_id")


_ANSWERED = (
    "SELECT 1 FROM inferences WHERE tenant = :tenant AND digest = :digest"
    " AND correlation = :correlation AND status = 'ok'"
)


def _insert_statement(kind: type[Result | Rejection]) -> str:
    columns = (*_FIELDS[kind], "arrived_s", *_KEY_COLUMNS)
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(f":{name}" for name in columns)
    return (
        f"INSERT INTO inferences ({names}) SELECT {values}"
        f" WHERE NOT EXISTS ({_ANSWERED if kind is Result else 'SELECT 1 WHERE FALSE'})"
        " ON CONFLICT DO NOTHING"
    )


_INSERT = {kind: _insert_statement(kind) for kind in _KINDS.values()}


def row_of(reply: Reply) -> dict[str, Any]:
    """A reply's columns, its lists as JSON."""
    row = {name: getattr(reply, name) for name in _FIELDS[type(reply)]}
    for name, adapter in _AS_JSON.items():
        if name in row:
            row[name] = adapter.dump_json(row[name]).decode()
    return row


def insert(connection: sqlite3.Connection, reply: Reply, key: RequestKey | None) -> bool:
    """Adds a reply to the log, unless its id or the answer to its request is there already.

    Whether it did.
    """
    row = row_of(reply)
    row["arrived_s"] = datetime.fromisoformat(reply.arrived_at).timestamp()
    for name in _KEY_COLUMNS:
        row[name] = None if key is None else getattr(key, name)
    return connection.execute(_INSERT[type(reply)], row).rowcount > 0


def reply_of(row: sqlite3.Row) -> Reply:
    """The reply that a row of the log holds."""
    kind = _KINDS[row["status"]]
    values: dict[str, Any] = {name: row[name] for name in _FIELDS[kind]}
    for name, adapter in _AS_JSON.items():
        if name in values:
            values[name] = adapter.validate_json(values[name])
    return kind(**values)
