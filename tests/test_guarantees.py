"""The tables of docs/guarantees.md and the tests that they name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
SECTIONS = ("Delivery", "Crashes", "Energy", "Policies")


def rows() -> list[list[str]]:
    """The cells of every row of these sections' tables, but for their heads."""
    found, section, lines = [], "", PAGE.read_text().splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        section = line.removeprefix("## ") if line.startswith("## ") else section
        is_head = below.startswith("|---")
        is_row = line.startswith("|") and not line.startswith("|---") and not is_head
        if is_row and section in SECTIONS:
            found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    defined = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }

    assert named
    assert named <= defined, named - defined


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_row_names_what_shows_it(row: list[str]) -> None:
    assert re.search(r"`(test_\w+|make \w+)`", row[-1])
