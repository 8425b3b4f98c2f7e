"""The threat model and the guarantees name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "SECURITY.md", ROOT / "docs" / "guarantees.md")


def rows(page: Path) -> list[str]:
    """The rows of the tables that have a column for tests."""
    found: list[str] = []
    in_table = False
    for line in page.read_text().splitlines():
        if line.startswith("|") and line.rstrip().endswith("| test |"):
            in_table = True
        elif not line.startswith("|"):
            in_table = False
        elif in_table and not line.startswith("|---"):
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_names_its_tests_and_every_named_test_exists(page: Path) -> None:
    table = rows(page)

    assert table
    for row in table:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), test
