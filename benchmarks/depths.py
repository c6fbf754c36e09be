"""Depths of planted networks: how often the brackets meet, and whether any misses a known answer.

Random cases: the activations below, S 1 … 8, d 1 … 16, m 1 or 3, with and without biases, free part none, offset or
affine; directions uniform, lengths in [0.6, 2.4] (relu types: 1), biases in [−1, 1].  Cases whose atoms are not
irreducible (several without biases on one line for homogeneous σ in d = 1) are not drawn.

Known answers (proofs: docs/depths.md), for independent directions (S ≤ d, S ≥ 2 unless said): erf, tanh, sin without
biases, offset free: D_var = D_orb = 3; relu types without biases, affine part free: 4; with biases: 3; quadratic: 2;
cubic without biases: 3; cos without biases and sin with them, affine part free: 4; one gelu neuron, offset free: 2 and
4; exp, relu and erf in d = 1 by Prony.

    python benchmarks/depths.py [--cases 2000] [--seed 0] [--jobs 2] [--known] [--verify] [--keep FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "tests")]

from sweep import sweep  # noqa: E402

ACTIVATIONS = (
    "relu", "leaky_relu", "abs", "relu2", "erf", "gelu", "tanh", "sigmoid", "softplus", "silu", "sin", "cos", "exp",
    "quadratic", "cubic",
)  # fmt: skip


def run(seed: int, first: int, count: int) -> dict[str, Any]:
    """Random cases first … first + count − 1."""
    from depth_cases import known_case, random_case
    from sparsemf.exceptions import InputError
    from sparsemf.pipeline.depth import depth
    from sparsemf.pipeline.verify import verify

    # the first digits of the seed say which kind of case and whether to verify
    kind, base = divmod(seed, 1_000_000)
    known, checked = bool(kind & 1), bool(kind & 2)
    counts: Counter[str] = Counter()
    failures: list[str] = []
    missed: list[str] = []
    seconds: list[float] = []
    for number in range(first, first + count):
        rng = np.random.default_rng([base, number])
        case = known_case(rng) if known else random_case(rng, ACTIVATIONS)
        start = time.perf_counter()
        try:
            report = depth(case.network, bias=case.bias, free=case.free)
        except InputError as error:
            counts["refused"] += 1
            missed.append(f"case {number}: {case.label}: {error}")
            continue
        seconds.append(time.perf_counter() - start)
        var, orb = report.found.generic, report.found.near
        what = f"case {number}: {case.label}: D_var {list(var)}, D_orb {list(orb)}"
        counts["cases"] += 1
        counts["D_var meets"] += var[0] == var[1]
        counts["D_orb meets"] += orb[0] == orb[1]
        counts["both meet"] += report.meets
        for group in (
            f"σ {report.family.activation.name}",
            "S ≤ d" if case.network.width <= case.network.d else "S > d",
        ):
            counts[f"{group}: cases"] += 1
            counts[f"{group}: both meet"] += report.meets
        if not report.meets:
            missed.append(what)
        for name, truth, (low, high) in (("D_var", case.variety, var), ("D_orb", case.orbit, orb)):
            if truth is not None and not (low <= truth and (high is None or truth <= high)):
                counts["wrong"] += 1
                failures.append(f"WRONG {what}: {name} is {truth}")
        if checked:
            document = json.loads(json.dumps(report.document()))
            found = verify(document, {"a": case.network})
            if not found.valid:
                counts["not verified"] += 1
                failures.append(f"REFUSED {what}: {found.reason}")
            counts["verified"] += found.valid
    return {"counts": counts, "failures": failures, "missed": missed, "seconds": seconds}


def main() -> None:
    """Print the counts; exit code 1 if a bracket is wrong or a certificate refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--known", action="store_true", help="cases with known answers only")
    parser.add_argument("--verify", action="store_true", help="pass every certificate through the checker")
    parser.add_argument("--keep", type=Path, help="file of finished parts; given again, they are not run again")
    options = parser.parse_args()
    seed = options.seed + 1_000_000 * (int(options.known) + 2 * int(options.verify))
    counts, lists = sweep(run, seed, options.cases, 20, options.jobs, options.keep)
    for line in lists.get("missed", [])[:60]:
        sys.stdout.write(f"open: {line}\n")
    for name in sorted(counts):
        sys.stdout.write(f"{name:44s} {counts[name]}\n")
    for name in ("wrong", "not verified"):
        sys.stdout.write(f"{name:44s} {counts[name]}\n")
    if lists.get("seconds"):
        q = np.quantile(lists["seconds"], [0.5, 0.9, 1.0])
        sys.stdout.write(f"depth: median {q[0]:.2f} s, 90 % {q[1]:.2f} s, longest {q[2]:.1f} s\n")
    sys.exit(1 if lists.get("failures") else 0)


if __name__ == "__main__":
    main()
