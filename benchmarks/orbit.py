"""Orbit distance: optimal transport on raw weights against the quotient, agreement where both apply, and cost by width.

1. A network against a rescaled, flipped and permuted copy of itself, the same function: W₁ between the raw particles
   (a, w, b) by POT, and the orbit distance with its rounding.
2. Equal positive masses, everything closer than 2, no flip (elu): the orbit distance is W₁ of the atoms.
3. Every weight perturbed: matching and orbit distance with time, gap and peak memory, each width in its own process.

    python benchmarks/orbit.py [--quick]

POT (`pip install pot`) is needed for 1 and 2, which are left out without it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time

import numpy as np


def network(rng: np.random.Generator, activation: str, n: int, d: int):
    """Random weights, (w, b) of length about 1."""
    from sparsemf import Network

    inner = rng.standard_normal((n, d)) / np.sqrt(d)
    return Network(rng.standard_normal((n, 1)), inner, 0.3 * rng.standard_normal(n), activation)


def raw_transport(a, b) -> float:
    """W₁ between the uniform measures on the particles (a, w, b)."""
    import ot

    x, y = (np.concatenate([f.alpha, f.inner, f.bias[:, None]], axis=1) for f in (a, b))
    weight = np.full(x.shape[0], 1 / x.shape[0])
    return float(np.asarray(ot.emd2(weight, weight, ot.dist(x, y, metric="euclidean"))))


def copies(n: int, out) -> None:
    """Part 1."""
    from sparsemf.certificates.orbit import orbit_distance
    from sparsemf.symmetry import disguise

    out(f"same function, n = {n}, d = 8\n activation   POT on raw weights  orbit distance  its rounding\n")
    for activation in ("relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "elu"):
        rng = np.random.default_rng(1)
        a = network(rng, activation, n, 8)
        b = disguise(a, rng, n)
        found = orbit_distance(a, b)
        out(f" {activation:<12} {raw_transport(a, b):>18.4f} {found.value:>15.2e} {found.rounding:>13.2e}\n")


def balanced(sizes: tuple[int, ...], out) -> None:
    """Part 2."""
    import ot

    from sparsemf import Network
    from sparsemf.certificates.orbit import orbit_distance

    out("\nbalanced positive masses, d = 3\n     n  POT emd2       difference of the orbit distance\n")
    for n in sizes:
        rng = np.random.default_rng(n)
        x, y = 0.15 * rng.standard_normal((2, n, 3))
        p, q = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
        truth = float(np.asarray(ot.emd2(p, q, ot.dist(x, y, metric="euclidean"))))
        found = orbit_distance(Network(p[:, None], x, None, "elu"), Network(q[:, None], y, None, "elu"))
        out(f"{n:>6} {truth:>10.6f} {abs((found.value or np.nan) - truth):>12.2e}\n")


def measure(activation: str, n: int, d: int) -> dict[str, object]:
    """Part 3 for one width, in this process."""
    from sparsemf.certificates.matching import match
    from sparsemf.certificates.orbit import orbit_distance

    rng = np.random.default_rng(0)
    a = network(rng, activation, n, d)
    order = rng.permutation(n)
    b = a.with_(
        inner=(a.inner + 1e-3 * rng.standard_normal(a.inner.shape) / np.sqrt(d))[order],
        outer=(a.outer * (1 + 1e-3 * rng.standard_normal(a.outer.shape)))[order],
        bias=a.bias[order],
    )
    match(network(rng, activation, 4, d), network(rng, activation, 4, d))  # imports and first-call costs
    start = time.perf_counter()
    pairs = match(a, b)
    middle = time.perf_counter()
    matching_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = orbit_distance(a, b)
    return {
        "matched": pairs.matched,
        "match_seconds": middle - start,
        "match_GiB": matching_peak,
        "seconds": time.perf_counter() - middle,
        "value": found.value,
        "rel_gap": None if found.dual_gap is None or not found.value else found.dual_gap / found.value,
        "GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3)
    options = parser.parse_args()
    out = sys.stdout.write
    if options.one:
        activation, n, d = options.one
        out(json.dumps(measure(activation, int(n), int(d))) + "\n")
        return
    if importlib.util.find_spec("ot") is None:
        out("POT is not installed: parts 1 and 2 are left out\n")
    else:
        copies(60 if options.quick else 400, out)
        balanced((10, 100) if options.quick else (10, 100, 400), out)
    sizes = ((100, 20), (1000, 64)) if options.quick else ((100, 20), (1000, 64), (4000, 64), (16384, 1024))
    out("\nevery weight perturbed by 1e-3 (memory includes the networks)\n")
    out(" activation     n     d matched  match s   GiB  orbit distance  gap/value  seconds   GiB\n")
    for activation in ("relu", "tanh"):
        for n, d in sizes:
            child = [sys.executable, __file__, "--one", activation, str(n), str(d)]
            row = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
            out(
                f" {activation:<10} {n:>5} {d:>5} {row['matched']:>7} "
                f"{row['match_seconds']:>8.2f} {row['match_GiB']:>5.2f} "
                f"{row['value']:>15.4f} {row['rel_gap']:>10.1e} {row['seconds']:>8.2f} {row['GiB']:>5.2f}\n"
            )


if __name__ == "__main__":
    main()
