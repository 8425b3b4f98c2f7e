"""`delen backup` and `delen restore`: the database, to a file and back, while it is in use."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from appliance import backups
from appliance.backups import Backups
from appliance.restoring import restore as restore_backup
from appliance.settings import read_settings

Database = Annotated[Path | None, typer.Option(help="the database; DELEN_DATABASE by default")]
AsJson = Annotated[bool, typer.Option("--json", help="print it as JSON")]


def register(app: typer.Typer) -> None:
    app.command()(backup)
    app.command()(restore)


def backup(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(help="where to; by default the next number in the folder DELEN_BACKUP"),
    ] = None,
    without_log: Annotated[
        bool, typer.Option("--without-log", help="policies, budgets and energy only")
    ] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Write a backup of the database, whole and checked or not at all; the appliance may run."""
    settings = read_settings()
    target = file or Backups.of(settings).next(with_log=not without_log)
    backups.take(database or settings.database, target, with_log=not without_log)
    policies, size_bytes = backups.verify(target), target.stat().st_size
    if as_json:
        print(json.dumps({"file": str(target), "bytes": size_bytes, "policies": policies}))
    else:
        print(target)
        print(f"{size_bytes / 1e6:.1f} MB, {policies} policies in force", file=sys.stderr)


def restore(
    *,
    file: Annotated[Path, typer.Argument(help="what `delen backup` wrote")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the database's place, which is set aside; the appliance may run.

    The policies of the backup are in force then. Requests in flight are logged, and not lost.
    """
    restored = restore_backup(file, database or read_settings().database)
    if as_json:
        print(json.dumps(asdict(restored)))
    else:
        who = "the running appliance" if restored.by_running_appliance else "this command"
        print(f"{restored.database}: restored by {who}, {restored.policies} policies in force")
