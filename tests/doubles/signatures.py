"""What the stubs in `stubs/` declare, to compare with what a module has."""

from __future__ import annotations

import ast
from pathlib import Path

STUBS = Path(__file__).parents[2] / "stubs"
TENSORRT = STUBS / "tensorrt" / "__init__.pyi"
PYCUDA_DRIVER = STUBS / "pycuda" / "driver.pyi"


def declared(stub: Path) -> dict[str, tuple[str, ...] | None]:
    """Each name in a stub, as `Class.method`: its parameters without self, or None for a value."""
    return dict(_members(ast.parse(stub.read_text()).body, ""))


def _members(body: list[ast.stmt], prefix: str) -> list[tuple[str, tuple[str, ...] | None]]:
    found: list[tuple[str, tuple[str, ...] | None]] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            found += [(prefix + node.name, None), *_members(node.body, f"{prefix}{node.name}.")]
        elif isinstance(node, ast.FunctionDef):
            found.append((prefix + node.name, _parameters(node)))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append((prefix + node.target.id, None))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.append((prefix + node.targets[0].id, None))
    # How a buffer is declared to a type checker; what has one in C has no such attribute.
    return [(name, parameters) for name, parameters in found if not name.endswith("__buffer__")]


def _parameters(node: ast.FunctionDef) -> tuple[str, ...] | None:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if "property" in decorators:
        return None
    names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
    return tuple(name for name in names if name != "self")
