"""Analysis time and peak memory against width: noisy particle clouds around five planted atoms (d = 8).

Every width runs in a process of its own, so that the peak resident memory is that width's.  The last column is the
time for an exact disguise of the planted network (splits, scalings, flips, dead and constant neurons).

    python benchmarks/analysis.py [--quick] [--activation relu]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np


def cloud(activation: str, width: int, seed: int = 0):
    """A noisy measure: 70 % of the particles near five atoms, the rest of little weight anywhere."""
    from sparsemf import Network

    rng = np.random.default_rng(seed)
    w = rng.standard_normal((5, 8))
    w *= 1.5 / np.linalg.norm(w, axis=1)[:, None]
    near = int(0.7 * width)
    label = rng.integers(0, 5, near)
    inner = np.concatenate([w[label] + 0.02 * rng.standard_normal((near, 8)), rng.standard_normal((width - near, 8))])
    size = np.concatenate([np.array([1, -1, 1, -1, 1.0])[label] * rng.uniform(0.5, 1.5, near), np.zeros(width - near)])
    size[near:] = 1e-3 * rng.standard_normal(width - near)
    return Network(size[:, None], inner, None, activation, 1 / width), Network(np.ones((5, 1)), w, None, activation)


def measure(activation: str, width: int) -> dict[str, float]:
    """Times (s) and peak memory (GiB) of one width, in this process."""
    import sparsemf
    from sparsemf.symmetry import disguise

    noisy, planted = cloud(activation, width)
    sparsemf.analyze(cloud(activation, 16)[0])  # imports and first-call costs are not the analysis
    start = time.perf_counter()
    found = sparsemf.analyze(noisy)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    exact = sparsemf.analyze(disguise(planted, np.random.default_rng(1), width))
    return {
        "width": width,
        "seconds": seconds,
        "s_star": found.s_star.value,
        "certified": found.s_star.certified,
        "strength": found.s_star.strength,
        "exact_seconds": time.perf_counter() - start,
        "exact_s_star": exact.s_star.value,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    out = sys.stdout.write
    if options.one:
        out(json.dumps(measure(options.activation, options.one)) + "\n")
        return
    widths = (64, 256, 1024) if options.quick else (64, 128, 256, 512, 1024, 2048, 4096)
    out(f"{options.activation}, d = 8, five planted atoms\n")
    out(" width  seconds  S* certified  strength disguise s  S*   GiB\n")
    for width in widths:
        child = [sys.executable, __file__, "--one", str(width), "--activation", options.activation]
        row = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        out(
            f"{row['width']:>6} {row['seconds']:>8.2f} {row['s_star']:>3} {row['certified']!s:>9} "
            f"{row['strength']:>9.3g} {row['exact_seconds']:>10.3f} {row['exact_s_star']:>3} {row['peak_GiB']:>5.2f}\n"
        )


if __name__ == "__main__":
    main()
