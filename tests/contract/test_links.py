"""Every link of every page leads somewhere, to the heading it names; every page of docs/ is in its index."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LINK: Final = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
FENCED: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HEADING: Final = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
INDEX: Final = ROOT / "docs" / "README.md"
# Their folders have an index of their own, or are lists themselves.
LISTED_ELSEWHERE: Final = {"decisions", "runbook"}
PAGES: Final = [
    ROOT / "README.md",
    *sorted(page for folder in ("docs", "deploy", "examples") for page in (ROOT / folder).rglob("*.md")),
]


def prose_of(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """Give the names of a page's headings, made as GitHub makes them."""
    words = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(prose_of(page)))
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(prose_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            lost.append(link)
    assert lost == []


def test_every_page_is_in_the_index() -> None:
    linked = {(INDEX.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose_of(INDEX))}
    pages = {page for page in PAGES if page.is_relative_to(INDEX.parent) and page != INDEX}
    lost = {page for page in pages - linked if page.parent.name not in LISTED_ELSEWHERE}
    assert sorted(str(page.relative_to(ROOT)) for page in lost) == []
