"""The commands of the pages do what the pages say; and one that does not is found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartBroker
from tests.docs.commands import Outcome, checkout, environment_for, run
from tests.docs.pages import ROOT, blocks_of, name_of, pages

TIMEOUT_S = 420.0
LINES_SHOWN = 60

PAGES_WITH_COMMANDS = [
    page
    for page in pages()
    if any(block.language == "sh" for block in blocks_of(page.read_text(encoding="utf-8")))
]


@pytest.fixture(scope="session")
def current_environment() -> None:
    """`make` in a page would install that page's copy into an environment that is not current."""
    asked = subprocess.run(["make", "--question", ".venv/.dev"], cwd=ROOT, check=False)
    assert asked.returncode == 0, "the virtual environment is not current: make test-docs"


@pytest.mark.docs
@pytest.mark.usefixtures("current_environment")
@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=name_of)
def test_the_commands_of_a_page_run(page: Path, start_broker: StartBroker, tmp_path: Path) -> None:
    environment = environment_for(start_broker(), tmp_path / "home")
    checkout(tmp_path / "delen")

    outcome = run(
        name_of(page),
        page.read_text(encoding="utf-8"),
        folder=tmp_path / "delen",
        environment=environment,
        timeout_s=TIMEOUT_S,
    )

    end = "\n".join(outcome.output.splitlines()[-LINES_SHOWN:])
    assert outcome.code is not None, f"not done after {TIMEOUT_S:.0f} s:\n{end}"
    assert outcome.code == 0, end


def outcome_of(text: str, tmp_path: Path, *, timeout_s: float = 60.0) -> Outcome:
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"]}
    return run("page.md", text, folder=folder, environment=environment, timeout_s=timeout_s)


def test_a_command_that_fails_is_named_with_its_page_and_line(tmp_path: Path) -> None:
    text = "# A page\n\n```sh\ntrue\nls nowhere\ntouch later\n```\n"

    outcome = outcome_of(text, tmp_path)

    assert outcome.code == 2
    assert "page.md:5: exit code 2: ls nowhere" in outcome.output
    assert not (tmp_path / "folder" / "later").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("false | true", "page.md:4: exit code 1"),
        ("echo $NOWHERE", "line 4: NOWHERE: unbound variable"),
        ("if true; then", "syntax error"),
        ("cd nowhere", "page.md:4: exit code 1: cd nowhere"),
    ],
)
def test_what_a_shell_would_pass_by_fails_too(command: str, line: str, tmp_path: Path) -> None:
    outcome = outcome_of(f"# A page\n\n```sh\n{command}\n```\n", tmp_path)

    assert outcome.code not in (0, None)
    assert line in outcome.output


def test_folders_variables_and_files_stay_from_block_to_block(tmp_path: Path) -> None:
    text = (
        "# A page\n\n```sh\nmkdir here && cd here\nNAME=thing\n```\n\nThen\n\n"
        "- in a list\n\n  ```sh\n  echo \\\n      $NAME > made\n  ```\n"
    )

    outcome = outcome_of(text, tmp_path)

    assert outcome.code == 0, outcome.output
    assert (tmp_path / "folder" / "here" / "made").read_text() == "thing\n"


def test_only_blocks_of_commands_are_run_and_the_hidden_ones_before_them(tmp_path: Path) -> None:
    text = (
        "# A page\n\n<!-- docs-setup\necho hidden > said\n-->\n\n```sh\ncat said\n```\n\n"
        "```console\nfalse\n```\n\n```\nfalse\n```\n\n<!-- a remark\nfalse\n-->\n"
    )

    outcome = outcome_of(text, tmp_path)

    assert outcome.code == 0, outcome.output
    assert "hidden" in outcome.output


def test_a_block_that_names_a_file_is_written_there(tmp_path: Path) -> None:
    text = "# A page\n\n```yaml gate.yaml\ntenant: $gate\n```\n\n```sh\ncat gate.yaml\n```\n"

    outcome = outcome_of(text, tmp_path)

    assert outcome.code == 0, outcome.output
    assert (tmp_path / "folder" / "gate.yaml").read_text() == "tenant: $gate\n"


def test_what_runs_in_the_background_ends_with_the_page(tmp_path: Path) -> None:
    text = "# A page\n\n```sh\nsleep 1000 &\necho $! > pid\nsleep 1000 | sleep 1000 &\n```\n"

    outcome = outcome_of(text, tmp_path)

    pid = int((tmp_path / "folder" / "pid").read_text())
    assert outcome.code == 0, outcome.output
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_page_that_does_not_end_is_ended(tmp_path: Path) -> None:
    timeout_s, begun = 0.5, tmp_path / "folder" / "begun"
    page = "# A page\n\n```sh\ntouch begun && sleep 1000\n```\n"

    outcome = outcome_of(page, tmp_path, timeout_s=timeout_s)
    while not begun.exists():  # a machine that others use, too, may not have come to it by then
        timeout_s *= 2
        outcome = outcome_of(page, tmp_path, timeout_s=timeout_s)

    assert outcome.code is None
    assert "page.md:4: touch begun" in outcome.output
