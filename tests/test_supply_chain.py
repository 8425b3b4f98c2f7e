"""What the appliance is made of: libraries all pinned, and nothing that runs what it reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def pinned() -> dict[str, str]:
    """The versions that the constraints name for this Python."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def installed(name: str, extras: frozenset[str] = frozenset()) -> dict[str, str]:
    """What is here of all that a library needs, directly or not, with its version."""
    found: dict[str, str] = {}
    waiting = [(name, extras)]
    seen = set()
    while waiting:
        asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        try:
            distribution = metadata.distribution(asked[0])
        except metadata.PackageNotFoundError:
            continue
        found[canonicalize_name(asked[0])] = distribution.version
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if _is_needed(requirement, asked[1]):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def _is_needed(requirement: Requirement, extras: frozenset[str]) -> bool:
    environment = {key: str(value) for key, value in default_environment().items()}
    return requirement.marker is None or any(
        requirement.marker.evaluate(environment | {"extra": extra}) for extra in (extras or {""})
    )


def test_every_library_that_is_installed_for_the_project_is_pinned() -> None:
    extras = metadata.metadata("delen").get_all("Provides-Extra") or []
    found = installed("delen", frozenset(extras) | {""})
    for own in ("delen", "pip"):  # pip installs the rest
        found.pop(own, None)

    pins = pinned()

    assert len(found) > 30
    assert {f"{name}=={Version(version).public}" for name, version in found.items()} <= {
        f"{name}{specifier}" for name, specifier in pins.items()
    }


def test_every_constraint_is_one_version() -> None:
    assert [pin for pin in pinned().values() if not re.fullmatch(r"==[^,*]+", pin)] == []


# What runs what it reads.

RUNS_CODE = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"})
CALLS = frozenset({
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all", "runpy.run_path",
})  # fmt: skip
LOADERS = {
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}
"""What must be said in a call for it to read numbers alone."""


def dangers(source: str) -> Iterator[str]:
    """What in a module may run what is in a file or a message."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in RUNS_CODE)
        elif isinstance(node, ast.Call):
            yield from _dangers_of_call(node)
        elif isinstance(node, ast.Attribute) and node.attr in ("UnsafeLoader", "FullLoader"):
            yield f"names yaml.{node.attr}"


def _dangers_of_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    said = {word.arg: word.value for word in call.keywords}
    if name in CALLS:
        yield f"calls {name}"
    if "shell" in said and not _is(said["shell"], value=False):
        yield f"calls {name} with a shell"
    if name in LOADERS:
        word, value = LOADERS[name]
        if word not in said or not _is(said[word], value=value):
            yield f"calls {name} without {word}={value}"


def _is(node: ast.expr, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.memory",
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.compose(text, Loader=yaml.FullLoader)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_what_runs_what_it_reads_is_noticed(source: str) -> None:
    assert list(dangers(source)) != []


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()",
        "re.compile(text)",
        "yaml.safe_load(text)",
        "yaml.compose(text, Loader=yaml.SafeLoader)",
        "np.load(path, allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "subprocess.run(words, check=True)",
    ],
)
def test_what_only_reads_is_let_be(source: str) -> None:
    assert list(dangers(source)) == []


def test_nothing_in_the_appliance_runs_what_it_reads() -> None:
    modules = sorted((ROOT / "appliance").rglob("*.py"))

    found = {path.name: said for path in modules if (said := list(dangers(path.read_text())))}

    assert found == {}
