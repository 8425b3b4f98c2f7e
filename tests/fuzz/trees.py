"""Mutations of YAML and JSON documents by their tree: keys, values, nesting, numbers and texts."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml

from tests.fuzz import flat

MAX_TEXT = 70_000
"""Somewhat more than a policy may have."""

_SCALARS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**53 + 1, 10**400, 1e-320, 1e308, float("inf"), float("nan"),
    "", " ", "null", "~", "40ms", "-1%", "1e999J", "9" * 65 + "s", "confidence >= 0.9", "exit>=NaN",
    "power < 5W", "not and or", "a" * 5000, "../../etc/passwd", "/dev/zero", "stage0.onnx", "x\0y",
    "é\u0301", "\u202e", "\U0001f600", "\ud800", "\x85", "\u2028", "\ufeff", "2026-11-31", "1:60",
    "0x_",
    "0b2", "0o8", "1_000", "=", "<<", "!!python/name:os.system", "&a", "*a", "? ", "- ", "#", "{",
    "[",
)  # fmt: skip

_WORDS = (
    "tenant", "version", "engine", "bounds", "response_time", "energy", "accuracy", "agreement",
    "exit_when", "modes", "adapt", "use", "when", "hold", "budget", "per", "exhausted", "goal",
    "maximize", "subject_to", "queue", "limit", "full", "priority", "weight", "all", "any", "not",
    "metric", "op", "threshold", "name", "kind", "input", "shape", "dtype", "layout", "mean", "std",
    "labels", "stages", "onnx", "tensorrt", "latency", "temperature", "build", "batches",
    "__class__",
)  # fmt: skip

_SNIPPETS = (
    "&a", "*a", "!!str ", "!x ", "? ", ": ", "- ", "|\n", ">\n", "'", '"', "[", "]", "{", "}", ",",
    "#",
    "---\n", "...\n", "%YAML 9.9\n", "<<: ", "\t", "\r", "\u0085", "\ufeff", "\\ud83d", "\\x",
    "\n", "  ",
)  # fmt: skip


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A document with a part changed, gone, come again, renamed or nested, written anew."""
    try:
        tree = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError):
        return flat.remove(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        tree = _changed(tree, rng)
    return _written(tree, rng)


def sprinkle(data: bytes, rng: random.Random) -> bytes:
    """A document with some of YAML's own signs where they do not belong."""
    at = rng.randrange(len(data) + 1)
    sign = rng.choice(_SNIPPETS).encode("utf-8", "surrogatepass") * flat.repetitions(rng)
    return (data[:at] + sign + data[at:])[:MAX_TEXT]


def _changed(tree: Any, rng: random.Random) -> Any:
    """The tree with a change at one place, each level as likely as the next."""
    if isinstance(tree, dict) and tree:
        key = rng.choice(list(tree))
        if rng.random() < 0.6:
            return tree | {key: _changed(tree[key], rng)}
        return _changed_mapping(tree, key, rng)
    if isinstance(tree, list) and tree:
        at = rng.randrange(len(tree))
        if rng.random() < 0.6:
            return [*tree[:at], _changed(tree[at], rng), *tree[at + 1 :]]
        return [*tree[:at], *[tree[at]] * _times(tree[at], rng), *tree[at + 1 :]]
    return _replacement(tree, rng)


def _changed_mapping(tree: dict[Any, Any], key: Any, rng: random.Random) -> Any:
    match rng.randrange(4):
        case 0:
            return {k: v for k, v in tree.items() if k != key}
        case 1:
            return {(rng.choice(_WORDS) if k == key else k): v for k, v in tree.items()}
        case 2:
            return tree | {rng.choice(_WORDS): _replacement(tree[key], rng)}
        case _:
            return tree | {f"{key}{n}": tree[key] for n in range(_times(tree[key], rng))}


def _replacement(value: Any, rng: random.Random) -> Any:
    match rng.randrange(6):
        case 0:
            return [value]
        case 1:
            return {rng.choice(_WORDS): value}
        case 2:
            return _nested(value, rng)
        case 3 if isinstance(value, str):
            return _misspelt(value, rng)
        case _:
            return rng.choice(_SCALARS)


def _nested(value: Any, rng: random.Random) -> Any:
    for _ in range(flat.repetitions(rng) % 40):
        value = [value] if rng.random() < 0.5 else {rng.choice(("all", "any", "not")): value}
    return value


def _misspelt(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return (
        text[:at] + rng.choice((" ", ">", "=", "9", "é", "\0", "e", "-", "%", "/")) + text[at:][1:]
    )


def _times(value: Any, rng: random.Random) -> int:
    """How often a part may come without the document's growing beyond bounds."""
    return min(flat.repetitions(rng), MAX_TEXT // (1 + len(repr(value))))


def _written(tree: Any, rng: random.Random) -> bytes:
    """The tree as YAML, in one of its styles, or as JSON."""
    try:
        if rng.random() < 0.3:
            text = json.dumps(tree, ensure_ascii=rng.random() < 0.5, default=str)
        else:
            style = rng.choice((None, True, False))
            text = yaml.dump(tree, default_flow_style=style, allow_unicode=rng.random() < 0.5)
    except (ValueError, TypeError, RecursionError):
        text = repr(tree)
    return text.encode("utf-8", "surrogatepass")[:MAX_TEXT]
