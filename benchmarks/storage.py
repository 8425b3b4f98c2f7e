"""What the log writes to the disk in a day at ten results a second, and what a commit takes."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from appliance import records
from appliance.database import open_for_writing
from appliance.duplicates import new_id
from appliance.energy import Spent
from appliance.ledger import Accounts, BudgetState
from appliance.messages import Candidate, RequestKey, Result
from appliance.settings import Settings
from appliance.store import Store
from appliance.writer import Gathering
from benchmarks.report import Finding, report, tell

RATE_PER_S = 10
SECONDS = 40.0
ROWS_BEFORE = 20_000
ACCOUNTS_EVERY_S = 0.5
ALONE_S, DEFAULT_S, LONGEST_S = 0.0, float(Settings.model_fields["commit_interval"].default), 1.0
COMMITS, GROUP = 100, 10
DAY_S = 86_400
GOAL = 0.7
"""Of what is written where each row is committed by itself."""


def measure() -> Finding:
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=Path.cwd()) as name:
        folder = Path(name)
        tell("storage: commits, one after the other")
        commits = {mode: _commit_ms(folder / f"{mode}.db", mode) for mode in ("FULL", "NORMAL")}
        tell(f"storage: {RATE_PER_S} results a second for {SECONDS:.0f} s, three ways at once")
        children = {
            longest_s: subprocess.Popen(
                [sys.executable, "-m", "benchmarks.storage", str(folder / f"{longest_s}.db"),
                 str(longest_s)],
                stdout=subprocess.PIPE,
            )
            for longest_s in (ALONE_S, DEFAULT_S, LONGEST_S)
        }  # fmt: skip
        written = {longest_s: json.loads(_output(child)) for longest_s, child in children.items()}
    figure = written[DEFAULT_S]["gb_per_day"]
    share = figure / written[ALONE_S]["gb_per_day"]
    return Finding(
        name="storage",
        figure=figure,
        unit="GB written a day at 10 results a second",
        goal=f"< {GOAL:.0%} of a commit per row",
        met=share < GOAL,
        measured={
            "share_of_a_commit_per_row": round(share, 3),
            "by_commit_interval_s": {str(key): value for key, value in written.items()},
            "commit_ms": commits,
            "rows_before": ROWS_BEFORE,
            "seconds": SECONDS,
            "scaled_by": round(DAY_S / SECONDS),
            "file_system": _file_system(Path.cwd()),
        },
    )


def _output(child: subprocess.Popen[bytes]) -> bytes:
    output, _ = child.communicate()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
    return output


def _log_for_a_while(path: Path, longest_s: float) -> dict[str, Any]:
    """What this process has the disk write, while rows come at the rate."""
    moments: list[float] = []

    def logged(_delivery: int, _key: RequestKey | None, _reply: object) -> None:
        moments.append(time.monotonic())

    gathering = Gathering(longest_s=longest_s)
    limits: dict[str, Any] = {"max_age_s": 1e9, "max_bytes": 10**9, "on_logged": logged}
    with Store(path, **limits) as store:
        for _ in range(ROWS_BEFORE):
            reply, key = _row()
            store.log(reply, delivery=1, key=key)
    moments.clear()
    before = _write_bytes()
    with Store(path, gathering=gathering, **limits) as store:
        began_s = time.monotonic()
        for number in range(int(RATE_PER_S * SECONDS)):
            time.sleep(max(0.0, began_s + number / RATE_PER_S - time.monotonic()))
            reply, key = _row()
            store.log(reply, delivery=1, key=key)
            if number % int(RATE_PER_S * ACCOUNTS_EVERY_S) == 0:
                store.keep(_accounts())
    took_s = time.monotonic() - began_s
    written = _write_bytes() - before
    return {
        "gb_per_day": round(written / took_s * DAY_S / 1e9, 2),
        "kb_per_result": round(written / (RATE_PER_S * SECONDS) / 1e3, 1),
        "commits": 1 + sum(b - a > 0.002 for a, b in itertools.pairwise(moments)),
    }


def _commit_ms(path: Path, mode: str) -> dict[str, float]:
    """The median commit of one row, and of a group, under a mode of synchronous."""
    found = {}
    with closing(open_for_writing(path, wal_bytes=4 * 2**20)) as db:
        db.execute(f"PRAGMA synchronous = {mode}")
        for rows in (1, GROUP):
            times_s = []
            for _ in range(COMMITS):
                began_s = time.perf_counter()
                with db.atomic():
                    for _ in range(rows):
                        records.insert(db.conn, *_row())
                times_s.append(time.perf_counter() - began_s)
            found[f"{rows}_rows"] = round(statistics.median(times_s) * 1e3, 3)
    return found


def _row() -> tuple[Result, RequestKey]:
    mark = os.urandom(8)
    return (
        replace(_RESULT, id=new_id(time.time()), arrived_at=_now()),
        RequestKey(tenant=_RESULT.tenant, digest=os.urandom(12), correlation=mark),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _accounts() -> Accounts:
    spent = Spent(measured_j=0.1, modelled_j=0.0)
    budget = BudgetState(tenant="gate", of_device=False, started_s=time.time(), spent_j=1.0)
    return Accounts(at_s=time.time(), charges={"gate": spent, "$idle": spent}, budgets=(budget,))


def _write_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def _file_system(folder: Path) -> str:
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


_RESULT = Result(
    id="",
    tenant="gate",
    stream="north",
    engine="digits",
    exit=1,
    label="seven",
    index=7,
    confidence=0.93,
    top=tuple(Candidate(label="seven", index=7, confidence=0.93) for _ in range(5)),
    response_time_ms=12.5,
    queue_time_ms=0.5,
    energy_mj=3.25,
    energy_source="tegrastats",
    accuracy=0.95,
    stopped_by="condition",
    unmet=(),
    policy_version=3,
    mode=None,
    appliance="box",
    arrived_at="",
)

if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_log_for_a_while(Path(sys.argv[1]), float(sys.argv[2]))))
    else:
        report(measure())
