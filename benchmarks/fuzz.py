"""Verdicts against known truths: random pairs of all activations, group elements composed at random, perturbations at
10^[−14, −1], near-equalities on the threshold; every certificate checked, and a lie of the prover told about each.

    python benchmarks/fuzz.py [--pairs 20000] [--seed 0] [--jobs 2] [--keep FILE]

Prints counts; a wrong verdict, a bound that misses the truth, a refused certificate or an accepted lie is printed in
full and makes the exit code 1.
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


def run(seed: int, first: int, count: int) -> dict[str, Any]:
    """Cases first … first + count − 1."""
    from lies import false_claim
    from pairs import random_pair
    from sparsemf.measures import Empirical
    from sparsemf.pipeline.certify import certify, document
    from sparsemf.pipeline.verify import verify

    counts: Counter[str] = Counter()
    failures, undecided, seconds, checking = [], [], [], []
    for case in range(first, first + count):
        rng = np.random.default_rng([seed, case])
        pair = random_pair(rng)
        start = time.perf_counter()
        found = certify(pair.a, pair.b, pair.law, **pair.options)
        seconds.append(time.perf_counter() - start)
        bounds = f"truth {pair.truth!r} in [{found.lower!r}, {found.upper!r}], ε {pair.eps!r}"
        what = f"case {case}: {pair.label}: {found.verdict}, {bounds}"
        counts[found.verdict] += 1
        counts["in balls"] += bool(found.evidence["bits"])
        if pair.wrong(found.verdict):
            counts["wrong verdicts"] += 1
            failures.append(f"WRONG {what}")
        if pair.outside(found.lower, found.upper):
            counts["bounds that miss the truth"] += 1
            failures.append(f"MISSED {what}")
        if pair.clear:
            counts["clear"] += 1
            if found.verdict == "undecided":
                counts["clear but undecided"] += 1
                undecided.append(what)
        networks, data = {"a": pair.a, "b": pair.b}, pair.law if isinstance(pair.law, Empirical) else None
        doc = json.loads(json.dumps(document(found, pair.a, pair.b)))
        start = time.perf_counter()
        proof = verify(doc, networks, data)
        checking.append(time.perf_counter() - start)
        if not proof.valid:
            counts["refused certificates"] += 1
            failures.append(f"REFUSED {what}: {proof.reason}")
        for _ in range(2):
            lie = false_claim(pair, doc, rng)
            if lie is None:
                continue
            counts["lies"] += 1
            if verify(lie, networks, data).valid:
                counts["accepted lies"] += 1
                failures.append(f"BELIEVED {what}: {lie['verdict']} {lie['bounds']}")
    return {"counts": counts, "failures": failures, "undecided": undecided, "seconds": seconds, "checking": checking}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of finished parts; given again, they are not run again")
    options = parser.parse_args()
    start = time.perf_counter()
    counts, lists = sweep(run, options.seed, options.pairs, 25, options.jobs, options.keep)
    for line in lists.get("undecided", [])[:20]:
        sys.stdout.write(line + "\n")
    names = (
        "equivalent",
        "distinct",
        "undecided",
        "clear",
        "clear but undecided",
        "wrong verdicts",
        "bounds that miss the truth",
    )
    for name in (*names, "refused certificates", "lies", "accepted lies", "in balls"):
        sys.stdout.write(f"{name:28s} {counts[name]}\n")
    share = counts["clear but undecided"] / max(counts["clear"], 1)
    sys.stdout.write(f"undecided among the clear    {100 * share:.3f} %\n")
    for name, key in (("certify", "seconds"), ("verify", "checking")):
        q = np.quantile(lists.get(key) or [0.0], [0.5, 0.9, 1.0])
        sys.stdout.write(f"{name}: median {q[0] * 1e3:.1f} ms, 90 % {q[1] * 1e3:.1f} ms, longest {q[2]:.2f} s\n")
    elapsed = time.perf_counter() - start
    sys.stdout.write(f"{counts['looked at']} pairs in {elapsed:.0f} s on {options.jobs} processes\n")
    sys.exit(1 if lists.get("failures") else 0)


if __name__ == "__main__":
    main()
