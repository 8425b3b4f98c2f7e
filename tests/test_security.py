"""The threat model and the guarantees name tests that exist, and the code keeps to them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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


SOURCES = sorted((ROOT / "appliance").rglob("*.py"))

FOREIGN_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
EVALUATING = {"eval", "exec", "compile", "__import__"}


def offences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (f"{where} imports {a.name}" for a in node.names if a.name in FOREIGN_CODE)
        elif isinstance(node, ast.ImportFrom) and node.module in FOREIGN_CODE:
            yield f"{where} imports {node.module}"
        elif isinstance(node, ast.Call):
            yield from (f"{where} {offence}" for offence in _call_offences(node))


def _call_offences(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in EVALUATING:
        yield f"calls {name}"
    if name in {"os.system", "os.popen", "subprocess.getoutput"} or given.get("shell") == "True":
        yield f"gives {name} a shell"
    if name == "yaml.load" or name.endswith((".unsafe_load", ".full_load")):
        yield f"calls {name}"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "loads more than weights"
    if given.get("allow_pickle") == "True":
        yield f"lets {name} unpickle"


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    assert [offence for path in SOURCES for offence in offences(path)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "yaml.load(text)",
        "torch.load(file)",
        "np.load(file, allow_pickle=True)",
    ],
)
def test_what_would_be_is_found(source: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)

    assert len(list(offences(file))) == 1
