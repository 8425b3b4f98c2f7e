"""What stands in quotes below the fields of a class: the one place where a field is described."""

from __future__ import annotations

import ast
import inspect
import textwrap


def attribute_docstrings(owner: type) -> dict[str, str]:
    """The sentence of each field, or member, of a class that has one, by its name."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    if not isinstance(body, ast.ClassDef):
        return {}
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        name = _name_of(field)
        if (
            name is not None
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[name] = inspect.cleandoc(text.value.value).replace("\n", " ")
    return found


def _name_of(statement: ast.stmt) -> str | None:
    """The name that a statement of a class defines, where it is one as fields are."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    target = statement.target if isinstance(statement, ast.AnnAssign) else next(iter(targets), None)
    return target.id if isinstance(target, ast.Name) else None
