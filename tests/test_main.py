"""How the `delen` command ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from appliance.cli import main as command


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

    monkeypatch.setattr(command, "app", starve)

    with pytest.raises(SystemExit) as ended:
        command.main()

    assert ended.value.code == 1
    assert "there is too little memory for this command" in capsys.readouterr().err
