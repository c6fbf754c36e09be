"""The pictures of the README and of the gallery, as a headless browser sees the reports (needs chromium).

    python docs/pictures.py

Writes docs/figures/report.png, classes.png, depths.png: pages of `dataset:relu-teacher`, of a batch of the suite
``copies``, and of the depths of three tanh atoms, each cut at a height that shows its head.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from sparsemf import save
from sparsemf.measures import Network

_FIGURES = Path(__file__).parent / "figures"


def photograph(page: Path, picture: Path, width: int, height: int, hide: str = "") -> None:
    """The first ``height`` pixels of a page at the given width; ``hide`` is a CSS selector of what is left out."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("install chromium first")
    shown = page.with_name("shown.html")
    style = f"<style>{hide} {{ display: none }}</style></head>" if hide else "</head>"
    shown.write_text(page.read_text(encoding="utf-8").replace("</head>", style, 1), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}"]
    subprocess.run(
        [chromium, *flags, f"--screenshot={picture}", shown.as_uri()], check=True, capture_output=True, timeout=120
    )


def sparsemf(*arguments: str | Path) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "sparsemf_cli", *map(str, arguments)], check=True, capture_output=True)


def main() -> None:
    """Make all of them."""
    _FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sparsemf("analyze", "dataset:relu-teacher", "--html", folder / "report.html")
        photograph(folder / "report.html", _FIGURES / "report.png", 1000, 1180)
        sparsemf("datasets", "copies", "-o", folder / "copies")
        sparsemf("batch", folder / "copies", "-o", folder / "out", "--classes")
        sparsemf("report", folder / "out", "-o", folder / "batch.html", "--no-pages")
        classes = json.loads((folder / "out" / "classes.json").read_text(encoding="utf-8"))
        truth = json.loads((folder / "copies" / "truth.json").read_text(encoding="utf-8"))["truth"]
        if len(classes["classes"]) != len(set(truth.values())) or not classes["certified"]:
            raise SystemExit("the classes are not the planted ones")
        photograph(folder / "batch.html", _FIGURES / "classes.png", 1000, 780, "tr.more, main > section:nth-of-type(1)")
        rng = np.random.default_rng(1)
        weights = rng.standard_normal((3, 4))
        network = Network(np.array([[1.0], [-0.7], [0.5]]), weights, 0.3 * rng.standard_normal(3), "tanh")
        save(network, folder / "three.safetensors")
        sparsemf("depth", folder / "three.safetensors", "--html", folder / "depth.html")
        photograph(folder / "depth.html", _FIGURES / "depths.png", 900, 1080)


if __name__ == "__main__":
    main()
