"""A YAML or JSON document with the place of each of its parts, for errors that point at them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from appliance.errors import Fault, InvalidDocument, KeyPath, Problem

MAX_CHARACTERS = 262_144
MAX_DEPTH = 32
MAX_PARTS = 50_000
"""Keys, values, mappings and lists. Each takes time, however short it is."""

MAX_MESSAGE = 400
"""What a sentence on a fault is cut to, since it may repeat what the document holds."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """What a document holds, and where: the place of a key for mappings, of an item for lists."""

    value: Any
    places: Mapping[KeyPath, Place]

    def locate(self, faults: Sequence[Fault]) -> list[Problem]:
        """The faults with their places; one in a missing part is placed at what should hold it."""
        problems = [self._locate(fault) for fault in faults]
        return sorted(problems, key=lambda problem: (problem.line, problem.column))

    def _locate(self, fault: Fault) -> Problem:
        path = fault.path
        while path and path not in self.places:
            path = path[:-1]
        place = self.places.get(path, Place(1, 1))
        return _problem(dotted(fault.path), place, fault.message)


def dotted(path: KeyPath) -> str:
    """A path as people write it: `adapt[0].when`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def listed(error: ValidationError) -> str:
    """Everything that is wrong with a document, each with the field that it is wrong in."""
    return "; ".join(
        f"{dotted(part['loc']) or 'the document'}: {part['msg'].removeprefix('Value error, ')}"
        for part in error.errors()
    )


def parse_document(
    text: str | bytes, *, max_characters: int = MAX_CHARACTERS, max_parts: int = MAX_PARTS
) -> Document:
    """Reads YAML, of which JSON is nearly a part. Raises InvalidDocument, with the place.

    Anchors and aliases are refused (a few lines of them expand to gigabytes), as are tags,
    documents that are longer than allowed, have more parts than allowed or are nested more than 32
    deep, and keys that stand twice.
    """
    source = _decode(text, max_characters)
    if source.lstrip().startswith(("{", "[")):
        # JSON may hold tabs between its tokens, YAML may not; inside JSON's strings there are none.
        source = source.replace("\t", " ")
    try:
        _check_shape(source, max_parts)
        node = yaml.compose(source, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _invalid(mark, str(error.problem or error.context)) from error
    except yaml.reader.ReaderError as error:
        before = source[: error.position]
        place = Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        message = f"the character U+{ord(source[error.position]):04X} is not allowed"
        raise InvalidDocument([_problem("", place, message)]) from error
    if node is None:
        raise _invalid(None, "the document is empty")
    places: dict[KeyPath, Place] = {(): _place(node.start_mark)}
    value = _construct(node, (), places)
    return Document(value, places)


def _decode(text: str | bytes, max_characters: int) -> str:
    if len(text) > max_characters:
        raise _invalid(None, f"the document is longer than {max_characters} characters")
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(
            None, f"the document is not UTF-8: {error.reason} at byte {error.start}"
        ) from error


def _check_shape(source: str, max_parts: int) -> None:
    """Refuses by its events, which take no recursion, what must not be composed."""
    depth = parts = 0
    for event in yaml.parse(source, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _invalid(event.start_mark, "anchors and aliases (& and *) are not allowed")
        if getattr(event, "tag", None) is not None:
            raise _invalid(event.start_mark, "tags (!) are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _invalid(event.start_mark, f"nested more than {MAX_DEPTH} deep")
        parts += isinstance(event, yaml.NodeEvent)
        if parts > max_parts:
            raise _invalid(event.start_mark, f"the document has more than {max_parts} parts")


def _construct(node: yaml.Node, path: KeyPath, places: dict[KeyPath, Place]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, places)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            below = (*path, index)
            places[below] = _place(item.start_mark)
            items.append(_construct(item, below, places))
        return items
    return _scalar(node)


def _construct_mapping(
    node: yaml.MappingNode, path: KeyPath, places: dict[KeyPath, Place]
) -> dict[Hashable, Any]:
    mapping: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _invalid(key_node.start_mark, "a key must be a plain word")
        # A batch size of an engine is a whole number; every other key is the word as written.
        key = _scalar(key_node)
        key = key if isinstance(key, int) and not isinstance(key, bool) else _text(key_node)
        if key in mapping:
            raise _invalid(key_node.start_mark, f"`{key}` stands here twice")
        below = (*path, key)
        places[below] = _place(key_node.start_mark)
        mapping[key] = _construct(value_node, below, places)
    return mapping


def _scalar(node: yaml.Node) -> Any:
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.MarkedYAMLError, ValueError, OverflowError) as error:
        problem = getattr(error, "problem", None) or str(error)
        raise _invalid(node.start_mark, f"{node.value!r} cannot be read: {problem}") from error
    return _text(node) if isinstance(value, str) else value


def _text(node: yaml.Node) -> str:
    """A scalar as it is written. JSON escapes a character such as an emoji in two halves."""
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        message = f"{node.value!r} holds half of an escaped character"
        raise _invalid(node.start_mark, message) from error


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _invalid(mark: Any, message: str) -> InvalidDocument:
    place = Place(1, 1) if mark is None else _place(mark)
    return InvalidDocument([_problem("", place, message)])


def _problem(path: str, place: Place, message: str) -> Problem:
    return Problem(path=_cut(path), line=place.line, column=place.column, message=_cut(message))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} ..."
