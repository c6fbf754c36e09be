"""Noisy-trained students of planted teachers: train, analyze, compare with the planted directions.

d = 8, five atoms, width 1024, default schedule of `sparsemf train`.  Prints S*, the plateau's strength, the largest
angle between a planted direction and its recovered atom, and the seconds of the analysis (after imports).

    python benchmarks/students.py [--seeds 0 1 2] [--activations relu tanh erf gelu] [--steps 20000]
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import sparsemf
from sparsemf.training import TrainConfig, train
from sparsemf_datasets import load_task


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--activations", nargs="*", default=["relu", "tanh", "erf", "gelu"])
    parser.add_argument("--steps", type=int, default=20000)
    options = parser.parse_args()
    out = sys.stdout.write
    out("activation seed  train s  rel. error  S*  certified  strength  largest angle  analysis s\n")
    for name in options.activations:
        for seed in options.seeds:
            task = load_task(f"planted-{name}", seed=seed)
            run = train(task, TrainConfig(activation=name, width=1024, steps=options.steps, seed=seed))
            teacher = task.teacher
            if teacher is None:
                raise SystemExit(f"planted-{name} has no teacher")
            start = time.perf_counter()
            found = sparsemf.analyze(run.network)
            seconds = time.perf_counter() - start
            w = teacher.inner / np.linalg.norm(teacher.inner, axis=1)[:, None]
            atoms = found.dictionary.inner / np.linalg.norm(found.dictionary.inner, axis=1)[:, None]
            angle = float(np.max(np.arccos(np.clip(np.max(np.abs(atoms @ w.T), axis=0), 0, 1))))
            error = run.records[-1].rel_error
            out(
                f"{name:>10} {seed:>4} {run.seconds:>8.1f} {error:>11.2e} {found.s_star.value:>3} "
                f"{found.s_star.certified!s:>10} {found.s_star.strength:>9.3g} {angle:>14.2e} {seconds:>11.2f}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
