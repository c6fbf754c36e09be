"""A hundred kills of living processes, at random moments of runs that save often: every resume ends in the same bytes.

    python benchmarks/kills.py [--kills 100] [--seed 0]

Prints, for each integrator and sampling, how many kills met a living process, how many of them left a half-written
temporary file, and whether measure, metrics and moments are those of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]

import torch  # noqa: E402

from sparsemf.training import TrainConfig, train  # noqa: E402
from sparsemf_datasets import load_task  # noqa: E402
from training.killing import killed_run  # noqa: E402

FILES = ("measure.safetensors", "metrics.jsonl", "moments.jsonl")
CASES = {
    "euler, fresh samples": ("planted-tanh", {"sampling": "fresh"}),
    "baoab, minibatches": ("diabetes", {"integrator": "baoab", "step_size": 0.1, "sampling": "minibatch"}),
    "adam, control variate": ("diabetes", {"integrator": "adam", "step_size": 0.01, "anchor_every": 7}),
    "euler, full batch, bounded": ("diabetes", {"sampling": "full", "outer": "bounded"}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a run at random moments; it must end in the same bytes.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    each, failed, total = -(-options.kills // len(CASES)), 0, 0
    for number, (name, (task_name, own)) in enumerate(CASES.items()):
        task = load_task(task_name)
        config = TrainConfig(
            "tanh", **({"width": 256, "steps": 1500, "checkpoint_every": 5, "metrics_every": 3, "threads": 1} | own)
        )
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            started = time.perf_counter()
            train(task, config, whole)
            # about ten kills fall into a run's own length, so that they come early, late and between
            longest = 0.2 * (time.perf_counter() - started)
            met = torn = runs = 0
            same = True
            while met < each:
                killed = Path(folder) / f"killed-{runs}"
                seed = options.seed + 1000 * number + runs
                found = killed_run(task, config, killed, each - met, seed, longest)
                met, torn, runs = met + found[0], torn + found[1], runs + 1
                same &= all((whole / file).read_bytes() == (killed / file).read_bytes() for file in FILES)
        failed += not same
        total += met
        sys.stdout.write(
            f"{name:28} {met:3d} kills of a living process in {runs} runs, {torn:3d} in the middle of a write: "
            f"{'identical' if same else 'DIFFERENT'}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{total} kills, {failed} of {len(CASES)} cases different\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
