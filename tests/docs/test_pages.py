"""The pages lead to each other, and every block says what it is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import ROOT, anchors_of, blocks_of, links_of, name_of, pages, tracked_files

PAGES = pages()
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def inner_links(page: Path) -> list[tuple[str, Path, str]]:
    """The links of a page that lead into this repository: as written, the file, the anchor."""
    found = []
    for link in links_of(TEXTS[page]):
        parts = urlsplit(link)
        if not parts.scheme:
            file = page.parent / unquote(parts.path) if parts.path else page
            found.append((link, file.resolve(), parts.fragment))
    return found


def faults_of_links(page: Path, files: set[Path]) -> list[str]:
    faults = []
    for link, file, anchor in inner_links(page):
        if file not in files:
            faults.append(f"{name_of(page)}: {link} leads to nothing that git has")
        elif anchor and anchor not in anchors_of(TEXTS.get(file, "")):
            faults.append(f"{name_of(page)}: {link} leads to no heading there")
    return faults


@pytest.fixture(scope="module")
def files() -> set[Path]:
    """What a link may lead to: files and their folders."""
    tracked = [path.resolve() for path in tracked_files()]
    return {*tracked, *(parent for path in tracked for parent in path.parents)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path, files: set[Path]) -> None:
    assert faults_of_links(page, files) == []


def test_every_page_can_be_reached_from_the_first() -> None:
    start = ROOT / "README.md"
    reached, open_pages = {start}, [start]
    while open_pages:
        for _, file, _ in inner_links(open_pages.pop()):
            if file in TEXTS and file not in reached:
                reached.add(file)
                open_pages.append(file)

    assert {name_of(page) for page in set(PAGES) - reached} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    untold = [block.line for block in blocks_of(TEXTS[page]) if not block.language]

    assert untold == [], "lines of blocks without a language; `sh` is what CI runs"


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
