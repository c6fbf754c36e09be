"""S* of planted dictionaries: how often it is certified, and whether any certificate is wrong.

Random cases (tests/planted_cases.py): Lipschitz activations with independent atoms, with ``--others`` relu², exp,
ramps, polynomials and networks with a quadratic part; d 2 … 64, S 1 … 24 (S > d included), m 1 and 4, biases,
disguised by group elements; well-separated, near-duplicate atoms, dipoles, shared directions, noisy clouds.

A claim ℓ ≤ S*(ε) ≤ u for ε in [lo, hi) is wrong when ℓ exceeds the planted number, or when some network of ℓ − 1
atoms (the heaviest atoms, or merged pairs, refitted) is closer than hi.  Every certificate is verified.  The joint
refinement is limited to two sizes: what is tested are the certificates, not how low U(S) can be brought for S below
the planted one.

With ``--affine offset|charged`` the linear part (and the constant) is charged: planted networks without affine part,
half of them disguised by flips that leave one in the file.  With ``--gated`` gated blocks without polynomial part.

With ``--shared``: relu, leaky_relu and abs of one output, one to four directions in d = 1 … 16 with two to four atoms
on each, which flattenings cannot tell apart.

    python benchmarks/planted.py [--cases 5000] [--seed 0] [--jobs 2] [--keep FILE]
                                 [--others | --shared | --gated] [--affine offset]
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


def run_others(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run` for the other activations."""
    return run(seed, first, count, others=True)


def run_shared(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run` for several atoms on each direction."""
    return run(seed, first, count, shared=True)


def run_offset(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run` with the linear part charged."""
    return run(seed, first, count, affine="offset")


def run_charged(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run` with the affine part charged."""
    return run(seed, first, count, affine="charged")


def run_gated(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run` for gated blocks beside which quadratic polynomials are free."""
    return run(seed, first, count, gated=True)


def run_gated_offset(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run_offset` for gated blocks."""
    return run(seed, first, count, affine="offset", gated=True)


def run_gated_charged(seed: int, first: int, count: int) -> dict[str, Any]:
    """:func:`run_charged` for gated blocks."""
    return run(seed, first, count, affine="charged", gated=True)


def run(
    seed: int,
    first: int,
    count: int,
    others: bool = False,
    affine: str = "free",
    shared: bool = False,
    gated: bool = False,
) -> dict[str, Any]:
    """Cases first … first + count − 1."""
    import sparsemf
    from planted_cases import charged_case, gated_case, law_of, other_case, random_case, shared_case, smaller
    from sparsemf.exceptions import InputError
    from sparsemf.measures import l2_distance
    from sparsemf.pipeline.verify import verify
    from sparsemf.recovery import Effort

    counts: Counter[str] = Counter()
    failures: list[str] = []
    missed: list[str] = []
    seconds: list[float] = []
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        draw = other_case if others else shared_case if shared else gated_case if gated else random_case
        draw = charged_case if affine != "free" and not gated else draw
        case = draw(rng)
        start = time.perf_counter()
        try:
            found = sparsemf.analyze(case.network, effort=Effort(few=1, drops=1, joint=0), affine=affine)
        except InputError as error:
            counts["refused"] += 1
            missed.append(f"case {number}: {case.label}: {error}")
            continue
        document = json.loads(json.dumps(found.certificate()))
        seconds.append(time.perf_counter() - start)
        claim, star = document["claim"], found.s_star
        draws = law_of(case).sample(4096, rng)
        what = f"case {number}: {case.label}: S* {star.lower}..{star.upper}, claim {claim['lower']}..{claim['upper']}"
        what += f" on {claim['eps']}"
        counts["cases"] += 1
        counts[f"{case.kind}: cases"] += 1
        right = claim["certified"] and claim["upper"] == case.atoms
        counts[f"{case.kind}: certified S* = planted"] += right
        counts[f"{case.kind}: certified"] += claim["certified"]
        if (case.kind == "separated" or shared) and not right:
            missed.append(what)
        for name, lower, high in (
            ("staircase", star.lower, star.eps[1]),
            ("certificate", claim["lower"], claim["eps"][1]),
        ):
            if lower == 0:
                continue
            high = float("inf") if high is None else high
            if case.exact and lower > case.atoms:
                counts["wrong"] += 1
                failures.append(f"WRONG ({name}) {what}")
            elif lower <= case.atoms:
                near = []
                for g in smaller(case, lower - 1, rng, None if affine == "free" and not gated else found.free):
                    # the mean of 4096 draws is within a few percent: the exact distance is asked for where it matters
                    rough = float(np.sqrt(np.mean(np.sum((case.network(draws) - g(draws)) ** 2, axis=1))))
                    if rough < 1.5 * high and not gated:
                        near.append(l2_distance(case.network, g, law_of(case)).upper)
                    elif rough < 1.5 * high:
                        near.append(sparsemf.certify(case.network, g, eps=high).upper)
                if near and min(near) < high * (1 - 1e-9):
                    counts["wrong"] += 1
                    failures.append(f"WRONG ({name}) {what}: {lower - 1} atoms come within {min(near):.6g}")
        if not verify(document, {"a": case.network}).valid:
            counts["not verified"] += 1
            failures.append(f"REFUSED {what}")
    return {"counts": counts, "failures": failures, "missed": missed, "seconds": seconds}


_RUNS = {"free": run, "offset": run_offset, "charged": run_charged}
_GATED = {"free": run_gated, "offset": run_gated_offset, "charged": run_gated_charged}


def main() -> None:
    """Print the counts; exit code 1 if a certificate is wrong or refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of finished parts; given again, they are not run again")
    parser.add_argument("--others", action="store_true", help="relu², exp, ramps, polynomials, quadratic parts")
    parser.add_argument("--shared", action="store_true", help="several one-kink atoms on each direction, one output")
    parser.add_argument("--affine", choices=list(_RUNS), default="free", help="what is free beside the atoms")
    parser.add_argument("--gated", action="store_true", help="gated blocks")
    options = parser.parse_args()
    runs = _GATED if options.gated else _RUNS
    counts, lists = sweep(
        run_others if options.others else run_shared if options.shared else runs[options.affine],
        options.seed,
        options.cases,
        20,
        options.jobs,
        options.keep,
    )
    for line in lists.get("missed", [])[:40]:
        sys.stdout.write(f"not certified: {line}\n")
    for name in sorted(counts):
        sys.stdout.write(f"{name:44s} {counts[name]}\n")
    for name in ("wrong", "not verified"):
        sys.stdout.write(f"{name:44s} {counts[name]}\n")
    if lists.get("seconds"):
        q = np.quantile(lists["seconds"], [0.5, 0.9, 1.0])
        sys.stdout.write(f"analyze and certificate: median {q[0]:.2f} s, 90 % {q[1]:.2f} s, longest {q[2]:.1f} s\n")
    sys.exit(1 if lists.get("failures") else 0)


if __name__ == "__main__":
    main()
