"""The pages in a headless browser, desktop and narrow, light and dark: nothing cut off, nothing complained of."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.browser import CHROMIUM, Look, looks
from reports.support import analyze_document
from reports.test_pages import DOCUMENTS
from sparsemf import reports

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (.ci/run installs it)")

SHOWN = (
    "certified",
    "many inputs",
    "uncertified",
    "distinct",
    "several",
    "batch with classes",
    "depths",
    "compressed blocks",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int, str], Look]:
    pages = {name: reports.render(DOCUMENTS[name]) for name in SHOWN}
    return looks(pages, tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 390])
def test_page_fits(found: dict[tuple[str, int, str], Look], name: str, theme: str, width: int) -> None:
    look = found[name, width, theme]
    assert look.complaints == []
    assert look.overflow <= 0
    assert look.cut == []
    assert look.unlabelled == []
    assert look.untitled == 0
    assert look.contrast > 7.0
    assert look.dark == (theme == "dark")
    assert look.unsorted == []


def test_browser_finds_what_is_wrong(tmp_path: Path) -> None:
    """The looking itself: a page with an error, a blocked picture, text cut off and an axis without a name."""
    page = reports.render(analyze_document())
    page = page.replace("</main>", '<p style="width:2000px">too wide</p><img src="x.png"></main>')
    page = page.replace('class="name"', 'class="unnamed"').replace('"use strict";', "missing();", 1)
    look = looks({"bad": page}, tmp_path, (600,), ("light",))["bad", 600, "light"]
    assert any("missing" in text for text in look.complaints)
    assert any("blocked" in text for text in look.complaints)
    assert look.overflow > 100
    assert "too wide" in look.cut
    assert look.unlabelled
    assert look.unsorted == ["no button"]
