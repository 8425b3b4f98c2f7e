"""`delen log`: reading the inference log from the command line."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from typer.testing import Result as Outcome

from appliance.cli import log
from appliance.messages import REPLY, Reply
from appliance.store import Store
from tests.stores import REJECTION, RESULT, Gateway, result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "delen.db"


@contextmanager
def running(path: Path, *replies: Reply) -> Iterator[None]:
    """An appliance that has logged these, and goes on."""
    gateway = Gateway()
    with Store(path, max_age_s=1e9, max_bytes=10**9, on_logged=gateway.logged) as store:
        for reply in replies:
            store.log(reply, delivery=1, key=None)
        gateway.wait_for(len(replies))
        yield


def delen_log(path: Path, *options: str) -> Outcome:
    app = typer.Typer()
    log.register(app)
    return CliRunner().invoke(app, ["--database", str(path), *options], env={"COLUMNS": "140"})


def test_the_table_shows_answers_and_rejections_newest_last(path: Path) -> None:
    with running(path, RESULT, REJECTION):
        lines = [line for line in delen_log(path).stdout.splitlines() if "gate" in line]

    assert "seven 93%" in lines[0]
    assert "condition; unmet: energy" in lines[0]
    assert "415 unknown type: text/html is no frame" in lines[1]


def test_the_table_shows_the_newest_fifty_unless_told_otherwise(path: Path) -> None:
    start_s = time.time()
    with running(path, *(result(n, arrived_s=start_s + n) for n in range(60))):
        shown = delen_log(path).stdout.count("gate")
        shown_with_a_limit = delen_log(path, "--limit", "55").stdout.count("gate")

    assert (shown, shown_with_a_limit) == (50, 55)


def test_json_is_an_object_a_line_as_on_the_wire(path: Path) -> None:
    with running(path, RESULT, REJECTION):
        lines = delen_log(path, "--json").stdout.splitlines()

    assert [REPLY.validate_json(line) for line in lines] == [RESULT, REJECTION]


def test_csv_has_a_header_and_a_row_a_reply(path: Path) -> None:
    with running(path, RESULT, REJECTION):
        rows = list(csv.DictReader(io.StringIO(delen_log(path, "--csv").stdout)))

    assert [row["id"] for row in rows] == ["r0", "j0"]
    assert json.loads(rows[0]["unmet"]) == ["energy"]
    assert (rows[1]["code"], rows[1]["exit"]) == ("415", "")


def test_it_picks_a_tenant_and_a_time(path: Path) -> None:
    now_s = time.time()
    old, young = result(0, arrived_s=now_s - 7200), result(1, arrived_s=now_s - 60)
    other = result(2, tenant="door", arrived_s=now_s - 60)
    with running(path, old, young, other):
        lines = delen_log(path, "--tenant", "gate", "--since", "1h", "--json").stdout.splitlines()

    assert [REPLY.validate_json(line).id for line in lines] == ["r1"]


def test_what_looks_like_markup_is_shown_as_it_is(path: Path) -> None:
    with running(path, replace(RESULT, stream="[red]left[/red]")):
        shown = delen_log(path).stdout

    assert "[red]left[/red]" in shown


def test_an_empty_log_is_said_beside_the_output(path: Path) -> None:
    with running(path):
        outcome = delen_log(path)

    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    assert outcome.stderr == "nothing was logged\n"


def test_the_database_is_the_settings_one_unless_it_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELEN_DATABASE", str(path))
    app = typer.Typer()
    log.register(app)

    with running(path, RESULT):
        outcome = CliRunner().invoke(app, ["--json"])

    assert REPLY.validate_json(outcome.stdout) == RESULT


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--since", "1x"], "unknown unit 'x'"),
        (["--since=-1h"], "without the minus"),
        (["--json", "--csv"], "choose one of --json and --csv"),
    ],
)
def test_wrong_usage_is_exit_code_2(path: Path, options: list[str], complaint: str) -> None:
    outcome = delen_log(path, *options)

    assert outcome.exit_code == 2
    assert complaint in outcome.stderr
