"""Folders that appear whole, whatever ends the process that writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.modelling.folders import replaced_folder

MARK = "mark"


def write_whole(place: Path, text: str) -> None:
    with replaced_folder(place, mark=MARK) as folder:
        (folder / MARK).write_text(text)


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "parts"
    write_whole(place, "old")

    write_whole(place, "new")

    assert (place / MARK).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_what_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "parts"
    write_whole(place, "old")

    with pytest.raises(OSError, match="disk"), replaced_folder(place, mark=MARK):
        raise OSError("the disk is full")

    assert (place / MARK).read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / f".parts-{dead_pid()}-abc"
    others = tmp_path / f".parts-new-{dead_pid()}-abc"
    alive = tmp_path / f".parts-{os.getpid()}-abc"
    for folder in (left, others, alive):
        (folder / "new").mkdir(parents=True)

    write_whole(tmp_path / "parts", "new")

    assert {path.name for path in tmp_path.iterdir()} == {"parts", others.name, alive.name}


def test_a_folder_that_a_killed_process_had_moved_away_is_put_back(tmp_path: Path) -> None:
    place = tmp_path / "parts"
    write_whole(place, "old")
    left = tmp_path / f".parts-{dead_pid()}-abc"
    left.mkdir()
    place.rename(left / "old")

    with pytest.raises(OSError, match="disk"), replaced_folder(place, mark=MARK):
        raise OSError("the disk is full")

    assert (place / MARK).read_text() == "old"
