"""The pages lead to each other, and every block says what it is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import ROOT, anchors_of, blocks_of, links_of, name_of, pages, tracked_files

PAGES = pages()
TRACKED = [path.resolve() for path in tracked_files()]
FILES = {*TRACKED, ROOT, *(up for path in TRACKED for up in path.parents if ROOT in up.parents)}
"""What a link may lead to: files and their folders."""

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def inner_links(page: Path, text: str) -> list[tuple[str, Path, str]]:
    """The links of a page that lead into this repository: as written, the file, the anchor."""
    found = []
    for link in links_of(text):
        parts = urlsplit(link)
        if not parts.scheme:
            file = page.parent / unquote(parts.path) if parts.path else page
            found.append((link, file.resolve(), parts.fragment))
    return found


def faults_of_links(page: Path, text: str) -> list[str]:
    texts = {**TEXTS, page: text}
    faults = []
    for link, file, anchor in inner_links(page, text):
        if file not in FILES:
            faults.append(f"{name_of(page)}: {link} leads to nothing that git has")
        elif anchor and anchor not in anchors_of(texts.get(file, "")):
            faults.append(f"{name_of(page)}: {link} leads to no heading there")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert faults_of_links(page, TEXTS[page]) == []


def test_every_page_can_be_reached_from_the_first() -> None:
    start = ROOT / "README.md"
    reached, open_pages = {start}, [start]
    while open_pages:
        for _, file, _ in inner_links(page := open_pages.pop(), TEXTS[page]):
            if file in TEXTS and file not in reached:
                reached.add(file)
                open_pages.append(file)

    assert {name_of(page) for page in set(PAGES) - reached} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    untold = [block.line for block in blocks_of(TEXTS[page]) if not block.language]

    assert untold == [], "lines of blocks without a language; `sh` is what CI runs"


def test_links_are_found_in_text_in_tables_and_in_html() -> None:
    text = (
        "[a](a.md), ![b](b.png)\n\n| x |\n|---|\n| [c](c.md#x) |\n\n"
        '<picture>\n  <source srcset="d.png">\n</picture>\n\nbeside <img src="e.png">\n\n'
        "```text\n[no](link.md)\n```\n"
    )

    assert links_of(text) == ["a.md", "b.png", "c.md#x", "d.png", "e.png"]


def test_a_link_that_leads_nowhere_is_named() -> None:
    page = ROOT / "README.md"

    faults = faults_of_links(
        page, "[a](nowhere.md) [b](LICENSE) [c](#nothing) [d](#docs)\n# Docs\n"
    )

    assert faults == [
        "README.md: nowhere.md leads to nothing that git has",
        "README.md: #nothing leads to no heading there",
    ]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## Who may connect", "who-may-connect"),
        ("## 1. Frames with `labels`", "1-frames-with-labels"),
        ("## Profile, where it will serve", "profile-where-it-will-serve"),
        ("## A [link](x.md) to it", "a-link-to-it"),
        ("## Again\n## Again", "again-1"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert anchor in anchors_of(heading)
