"""Over-parametrised students trained by plain gradient descent: does the analysis return the teacher's units?

Teacher: r = 4 units, d = 4.  Student: 16 units and more, no noise, no weight decay, fresh Gaussian samples every step.
Nothing pulls copies of a unit together, so the student's weights stay scattered.  Prints per run the student's
relative error, the S* found (no threshold given), the plateau's strength, the largest 1 − |cos| between a teacher's
unit and its nearest atom, and whether the count and the directions are right.

    python benchmarks/students_plain.py [--quick] [--activations tanh relu] [--widths 16 64 256] [--seeds 0 1 2 3]
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import sparsemf
from sparsemf.training import Schedule, TrainConfig, train
from sparsemf_datasets import planted_task


def configuration(activation: str, width: int, steps: int, seed: int) -> TrainConfig:
    """Gradient descent on the squared loss alone."""
    return TrainConfig(
        activation=activation,
        width=width,
        steps=steps,
        step_size=Schedule(0.5, 0.005, "cosine", 0.5, 1.0),
        temperature=Schedule.of(0.0),
        weight_decay=Schedule.of(0.0),
        batch=512,
        checkpoint_every=0,
        metrics_every=steps,
        seed=seed,
    )


def largest_gap(found: sparsemf.Network, teacher: sparsemf.Network) -> float:
    """max over the teacher's units of min over atoms of 1 − |cos|, and the same the other way round."""
    mine = found.inner / np.linalg.norm(found.inner, axis=1)[:, None]
    true = teacher.inner / np.linalg.norm(teacher.inner, axis=1)[:, None]
    gap = 1.0 - np.abs(mine @ true.T)
    return float(max(gap.min(axis=0).max(), gap.min(axis=1).max())) if gap.size else 1.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, width 16, fewer steps")
    parser.add_argument("--activations", nargs="*", default=["tanh", "relu"])
    parser.add_argument("--widths", type=int, nargs="*", default=None)
    parser.add_argument("--seeds", type=int, nargs="*", default=None)
    parser.add_argument("--steps", type=int, default=None)
    options = parser.parse_args()
    seeds = options.seeds or ([0, 1] if options.quick else [0, 1, 2, 3])
    steps = options.steps or (10_000 if options.quick else 40_000)
    out = sys.stdout.write
    out("activation width seed  train s  rel. error  S*  certified  strength  1 - |cos|  right  analysis s\n")
    right = total = 0
    for name in options.activations:
        for width in options.widths or ([16] if options.quick else [16, 64, 256]):
            for seed in seeds:
                task = planted_task(name, d=4, atoms=4, seed=seed)
                if task.teacher is None:
                    raise SystemExit(f"planted {name} has no teacher")
                run = train(task, configuration(name, width, steps, seed))
                start = time.process_time()
                found = sparsemf.analyze(run.network)
                seconds = time.process_time() - start
                gap = largest_gap(found.dictionary, task.teacher)
                good = found.s_star.value == task.teacher.width and gap < 1e-3
                right, total = right + good, total + 1
                out(
                    f"{name:>10} {width:>5} {seed:>4} {run.seconds:>8.1f} {run.records[-1].rel_error:>11.2e} "
                    f"{found.s_star.value:>3} {found.s_star.certified!s:>10} {found.s_star.strength:>9.3g} "
                    f"{gap:>10.2e} {'yes' if good else 'NO':>6} {seconds:>11.2f}\n"
                )
                sys.stdout.flush()
    out(f"{right} of {total} right\n")


if __name__ == "__main__":
    main()
