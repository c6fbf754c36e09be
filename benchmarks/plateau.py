"""S* of trained measures against the temperature they were trained at.

Students of planted teachers (d = 8, five atoms, N = 1024) are annealed to a final temperature τ, all temperatures of an
activation as replicas of one run; then each measure is analysed.  Prints, for each (activation, τ), the error, S* with
its certified bracket, and the strength of the plateau at the planted number: log10 of the ratio of the ends of the
range of ε where S*(ε) is that number.  --plot draws strength against temperature; hollow marks are not certified, or
not the planted number.

    python benchmarks/plateau.py -o RUNS/ [--device cuda] [--steps 20000] [--plot FILE.svg]

Runs that are already in RUNS/ are not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from sparsemf.training import Schedule, TrainConfig
from sparsemf.training.store import STATE
from sparsemf.training.trainer import train_replicas
from sparsemf_datasets import load_task

TEMPERATURES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
PLANTED = 5


def finished(run: Path) -> bool:
    """Whether the folder holds a complete run."""
    document = run / "run.json"
    return document.is_file() and json.loads(document.read_text())["status"] == "complete"


def train_all(name: str, folder: Path, device: str, steps: int) -> list[Path]:
    """The runs of one activation, one folder for each temperature."""
    task = load_task(f"planted-{name}", atoms=PLANTED)
    base = TrainConfig(name, width=1024, steps=steps, device=device, checkpoint_every=steps, metrics_every=steps // 50)
    start = base.temperature.initial
    configs = [
        replace(base, temperature=Schedule(start, heat, "exponential", 0.0, 0.5) if heat != start else Schedule(start))
        for heat in TEMPERATURES
    ]
    folders = [folder / f"{name}-t{heat:g}" for heat in TEMPERATURES]
    left = [i for i, f in enumerate(folders) if not finished(f)]
    for again in (False, True):
        members = [i for i in left if (folders[i] / STATE).exists() == again]
        if members:
            train_replicas(task, [configs[i] for i in members], [folders[i] for i in members], resume=again)
    return folders


def analysed(run: Path) -> dict[str, float | int | bool | None]:
    """Error, S*, bracket and the strength of the plateau at the planted number."""
    import sparsemf

    found = sparsemf.analyze(sparsemf.load(run / "measure.safetensors"))
    document = found.document()
    star = document["s_star"]
    lower = {row["S"]: row["lower"] for row in document["staircase"]}
    upper = {row["S"]: row["upper"] for row in document["staircase"]}
    # ε in [U(5), L(4)): no network of four atoms comes that close, one of five does
    low, high = upper.get(PLANTED), lower.get(PLANTED - 1)
    ratio = high / low if low and high else None
    return {
        "error": json.loads((run / "run.json").read_text())["final"]["rel_error"],
        "value": star["value"],
        "lower": star["lower"],
        "certified": bool(star["certified"]),
        "plateau": None if ratio is None or ratio <= 1 else float(np.log10(ratio)),
    }


COLOURS = ("#0a5fa8", "#c2500a", "#3b7d23", "#7a3e9d", "#8c6d00", "#444444")
STYLE = (
    "<style>text{font:12.5px system-ui,sans-serif;fill:#5a5d63}.axis{stroke:#a5a7ab}.grid{stroke:#dddcd5;"
    "stroke-width:.8}path{fill:none}rect{fill:#fff}"
    + "".join(
        f".s{i}{{stroke:{c};stroke-width:1.6}}rect.full.s{i}{{fill:{c}}}text.s{i}{{fill:{c};stroke:none}}"
        for i, c in enumerate(COLOURS)
    )
    + "</style>"
)


def figure(rows: dict[str, list[dict[str, float | int | bool | None]]]) -> str:
    """Strength of the plateau at the planted number against the temperature, a line for each activation."""
    from sparsemf.reports.svg import Drawing, Scale, log

    width, height = 640.0, 380.0
    top = max((float(r["plateau"] or 0) for part in rows.values() for r in part), default=1.0)
    drawing = Drawing("plateau", width, height, "Strength of the S* plateau", "Against the temperature of training.")
    x = log(TEMPERATURES[0] / 1.6, TEMPERATURES[-1] * 1.6, 70.0, width - 90.0)
    y = Scale("linear", 0.0, 1.1 * max(top, 0.1), height - 48.0, 24.0)
    drawing.axes(x, y, "temperature", "plateau, decades of ε")
    for i, (name, part) in enumerate(rows.items()):
        points = [(x(float(r["temperature"] or 0)), y(float(r["plateau"] or 0))) for r in part]
        drawing.path(points, f"s{i}")
        for (cx, cy), r in zip(points, part, strict=True):
            full = "full " if r["certified"] and r["value"] == PLANTED else ""
            drawing.rect(cx - 4.0, cy - 4.0, 8.0, 8.0, f"{full}s{i}")
        drawing.text(width - 84.0, 40.0 + 16.0 * i, name, f"s{i}")
    svg = str(drawing.render())
    size = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
    return size + svg.removeprefix("<svg ").replace("</title>", "</title>" + STYLE, 1) + "\n"


def main() -> int:
    """Train, analyse, print, draw."""
    parser = argparse.ArgumentParser(description="S* of trained measures against temperature.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--activations", nargs="*", default=["relu", "tanh", "erf", "gelu"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    out = sys.stdout.write
    rows: dict[str, list[dict[str, float | int | bool | None]]] = {}
    right = 0
    for name in options.activations:
        folders = train_all(name, options.output, options.device, options.steps)
        if options.train_only:
            continue
        if not rows:
            out("activation   temperature  rel. error  S*  certified  plateau (decades of eps)\n")
        rows[name] = []
        for heat, folder in zip(TEMPERATURES, folders, strict=True):
            row = analysed(folder) | {"temperature": heat}
            rows[name].append(row)
            good = row["certified"] and row["value"] == PLANTED
            right += bool(good)
            plateau = "-" if row["plateau"] is None else f"{row['plateau']:.2f}"
            bracket = f"{row['value']}" if row["certified"] else f"{row['lower']}-{row['value']}"
            out(f"{name:>10} {heat:>13.0e} {row['error']:>11.2e} {bracket:>4} {row['certified']!s:>9} {plateau:>8}\n")
            sys.stdout.flush()
    if not options.train_only:
        out(f"{right} of {sum(map(len, rows.values()))} settings: certified = planted ({PLANTED})\n")
    if options.plot is not None and rows:
        options.plot.write_text(figure(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
