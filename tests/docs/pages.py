"""The Markdown pages of the project: their blocks, headings and links."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent.parent

_SETUP = re.compile(r"<!-- docs-setup\n(.*?)-->\s*\Z", re.DOTALL)
_NO_PART_OF_AN_ANCHOR = re.compile(r"[^\w\- ]")
_HTML_LINK = re.compile(r'\b(?:href|src|srcset)="([^"]+)"')
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block, or a comment `<!-- docs-setup ... -->`, which is a block that nobody sees.

    `line` is that of its first line of text, counted from 1. A fence of two words names the
    block's language and the file that the text belongs into.
    """

    line: int
    language: str
    file: str | None
    text: str


def tracked_files(root: Path = ROOT) -> list[Path]:
    """What a checkout would hold: files that git has, and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    named = (root / name for name in sorted(set(listed.split("\0"))) if name)
    return [path for path in named if path.is_file()]


def pages() -> list[Path]:
    """Every Markdown page."""
    return [path for path in tracked_files() if path.suffix == ".md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [block for token in _MARKDOWN.parse(text) for block in _blocks_in(token)]


def _blocks_in(token: Token) -> Iterator[Block]:
    if token.map is None:
        return
    line = token.map[0] + 2
    if token.type == "fence":
        language, _, file = token.info.partition(" ")
        yield Block(line=line, language=language, file=file or None, text=token.content)
    elif token.type == "code_block":
        yield Block(line=line - 1, language="", file=None, text=token.content)
    elif token.type == "html_block" and (setup := _SETUP.match(token.content)):
        yield Block(line=line, language="sh", file=None, text=setup[1])


def anchors_of(text: str) -> set[str]:
    """What headings of a page are linked by, as GitHub makes it of their words."""
    anchors: set[str] = set()
    tokens = _MARKDOWN.parse(text)
    for heading, words in pairwise(tokens):
        if heading.type == "heading_open":
            said = "".join(part.content for part in words.children or [])
            anchor = _NO_PART_OF_AN_ANCHOR.sub("", said.lower()).replace(" ", "-")
            again = (f"{anchor}-{number}" for number in range(1, len(anchors) + 1))
            anchors.add(next(a for a in (anchor, *again) if a not in anchors))
    return anchors


def links_of(text: str) -> list[str]:
    """Where links lead to and pictures are, in Markdown and in HTML."""
    found: list[str] = []
    for token in _MARKDOWN.parse(text):
        for part in (token, *(token.children or ())):
            if part.type in ("html_block", "html_inline"):
                found += _HTML_LINK.findall(part.content)
            found += (str(part.attrs[name]) for name in ("href", "src") if name in part.attrs)
    return found
