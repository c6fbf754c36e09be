"""Pages in a real headless browser: what it complains of, and what is cut off, at several widths and in both themes."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")

# runs first inside the page under test
_LISTEN = """<script>
window.complaints = [];
addEventListener("error", function (e) { complaints.push("error: " + e.message); });
addEventListener("securitypolicyviolation", function (e) { complaints.push("blocked: " + e.blockedURI); });
["error", "warn"].forEach(function (level) {
  console[level] = function (text) { complaints.push(level + ": " + text); };
});
</script>"""

# runs in the outer page, which is of the same origin as the page under test (srcdoc)
_LOOK = """
function look(frame) {
  const page = frame.contentDocument, root = page.documentElement, found = {};
  const box = e => e.getBoundingClientRect();
  found.complaints = frame.contentWindow.complaints;
  found.overflow = root.scrollWidth - root.clientWidth;
  const scrolls = e => e.closest(".scroll") !== null;
  const visible = e => box(e).width > 0 && frame.contentWindow.getComputedStyle(e).visibility !== "hidden";
  found.cut = Array.from(page.querySelectorAll("svg text, p, h1, h2, h3, li, figcaption, dd, dt"))
    .filter(e => visible(e) && !scrolls(e) && !e.closest(".hidden"))
    .filter(e => box(e).left < -0.5 || box(e).right > root.clientWidth + 0.5)
    .map(e => e.textContent.trim().slice(0, 60));
  found.unlabelled = Array.from(page.querySelectorAll("svg.drawing"))
    .filter(e => visible(e) && e.querySelector(".axis") && !e.querySelector("text.name"))
    .map(e => e.querySelector("title").textContent);
  found.untitled = Array.from(page.querySelectorAll("svg.drawing")).filter(e => !e.querySelector("title")).length;
  const linear = v => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = frame.contentWindow.getComputedStyle(page.body);
  const [ink, paper] = [light(style.color), light(style.backgroundColor)];
  found.contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  found.dark = paper < 0.2;
  found.unsorted = Array.from(page.querySelectorAll("table.sortable")).map(table => {
    const button = table.tHead.rows[0].cells[0].querySelector("button");
    if (!button) { return "no button"; }
    button.click();
    const names = Array.from(table.tBodies[0].rows).map(r => r.cells[0].textContent.trim());
    const order = table.tHead.rows[0].cells[0].getAttribute("aria-sort");
    return order === "ascending" ? "" : "not sorted: " + names.slice(0, 3).join(", ");
  }).filter(text => text);
  return found;
}
addEventListener("load", function () {
  const out = {};
  document.querySelectorAll("iframe").forEach(frame => { out[frame.name] = look(frame); });
  document.getElementById("out").textContent = JSON.stringify(out);
});
"""


@dataclass(frozen=True)
class Look:
    """What the browser says of one page at one width in one theme."""

    complaints: list[str]
    overflow: float
    cut: list[str]
    unlabelled: list[str]
    untitled: int
    contrast: float
    dark: bool
    unsorted: list[str]


def looks(
    pages: Mapping[str, str],
    folder: Path,
    widths: Sequence[int] = (1100, 390),
    themes: Sequence[str] = ("light", "dark"),
) -> dict[tuple[str, int, str], Look]:
    """Every page at every width in every theme, in one run of the browser."""
    frames = []
    for name, text in pages.items():
        for theme in themes:
            shown = text.replace("<html ", f'<html data-theme="{theme}" ', 1).replace("<head>", "<head>" + _LISTEN, 1)
            frames += [
                f'<iframe name="{name}|{width}|{theme}" style="border:0;width:{width}px;height:1500px" '
                f'srcdoc="{html.escape(shown, quote=True)}"></iframe>'
                for width in widths
            ]
    outer = folder / "outer.html"
    outer.write_text(
        f'<!DOCTYPE html><html><body>{"".join(frames)}<pre id="out"></pre><script>{_LOOK}</script></body></html>',
        encoding="utf-8",
    )
    dumped = _run("--virtual-time-budget=20000", "--dump-dom", outer.as_uri(), folder=folder)
    found = re.search(r'<pre id="out">(.*?)</pre>', dumped, re.DOTALL)
    if found is None or not found[1]:
        raise AssertionError(f"the browser gave no answer: {dumped[:500]}")
    answers = json.loads(html.unescape(found[1]))
    split = {tuple(key.split("|")): Look(**value) for key, value in answers.items()}
    return {(name, int(width), theme): look for (name, width, theme), look in split.items()}


def _run(*arguments: str, folder: Path) -> str:
    if CHROMIUM is None:
        raise RuntimeError("no chromium")
    command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
