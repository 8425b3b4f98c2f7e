"""How the `delen` command ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from appliance.cli import main as command
from appliance.cli.main import command_line

LOADED = """
import sys
from appliance.cli.main import command_line
command_line("serve")
print(*(name for name in sys.modules if name.startswith("appliance.") or name == "rich.console"))
"""


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("signals_as_before")
def test_too_little_memory_ends_a_command_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def starve() -> None:
        raise MemoryError

    monkeypatch.setattr(command, "command_line", lambda _verb: starve)

    with pytest.raises(SystemExit) as ended:
        command.main()

    assert ended.value.code == 1
    assert "there is too little memory for this command" in capsys.readouterr().err


def test_every_verb_is_found_by_its_name_alone() -> None:
    verbs = typer.main.get_command(command_line()).commands  # type: ignore[attr-defined]

    alone = {name: typer.main.get_command(command_line(name)) for name in verbs}

    assert len(verbs) > 20
    for name, group in alone.items():
        assert name in group.commands  # type: ignore[attr-defined]
        assert len(group.commands) <= 2  # type: ignore[attr-defined]


def test_serving_loads_nothing_of_the_other_verbs() -> None:
    command = [sys.executable, "-c", LOADED]

    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert "appliance.serving" in loaded
    others = ("appliance.load", "appliance.fleet", "appliance.demo", "appliance.contracts", "rich")
    assert [name for name in loaded if name.startswith(others)] == []
