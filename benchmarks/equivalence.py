"""`sparsemf certify` and `sparsemf verify` on wide networks: time, memory, bounds against width, and two peers.

A has N He-scaled random neurons (d = m = 1024 by default, relu and gelu), in a float32 file.  B is

- copy: A with a tenth of its neurons split in two, half of all flipped (the polynomial paid into the affine part),
  scaled where the activation is homogeneous, and permuted; rounded to float32, so equal to some 1e-7;
- one: that with one neuron replaced;
- noise: A permuted, with noise of 1e-6 of the weights' standard deviation on every weight (--noise).

Every command is a process of its own; times include reading and hashing the files, memory is that process's peak.
The bounds are relative to the square root of E‖f_A‖², estimated from samples.

Peers, on A and a permuted copy of it (the only case they speak of; neither proves anything):

- linear_sum_assignment of scipy on the full N × N matrix of squared distances of (w, b, α), matrix included;
- rebasin (`pip install rebasin --no-deps`, with torch): its weight matching on a two-layer torch network.

    python benchmarks/equivalence.py [--quick] [--widths 2048 4096] [--activations gelu] [--peers]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_CASES = ("copy", "one", "noise")
_THREADS = 2


def he_network(rng: np.random.Generator, activation: str, n: int, d: int, m: int):
    """N neurons with w of variance 2/d and α of variance 2/N per entry."""
    from sparsemf import Network

    inner = rng.standard_normal((n, d)) * np.sqrt(2 / d)
    return Network(rng.standard_normal((n, m)) * np.sqrt(2 / n), inner, 0.1 * rng.standard_normal(n), activation)


def copied(a, rng: np.random.Generator, split: float = 0.1):
    """The same function: split, flipped at a cost in the affine part, scaled where σ is homogeneous, permuted."""
    from sparsemf import Network

    relation, k = a.activation.relation, a.activation.homogeneous
    if relation is None or relation.quadratic:
        raise SystemExit(f"expected an activation with an affine flip relation, got {a.activation.name}")
    owner = np.concatenate([np.arange(a.width), rng.permutation(a.width)[: int(split * a.width)]])
    portion = np.ones(owner.size)
    portion[a.width :] = rng.uniform(0.2, 0.8, owner.size - a.width)
    portion[owner[a.width :]] = 1 - portion[a.width :]
    order = rng.permutation(owner.size)
    owner, portion = owner[order], portion[order]
    alpha, inner, bias = a.alpha[owner] * portion[:, None], a.inner[owner], a.bias[owner]
    turned = rng.random(owner.size) < 0.5
    # σ(z) = s·σ(−z) + P(z)
    affine = a.affine + relation.linear * (alpha[turned].T @ inner[turned])
    offset = a.offset + alpha[turned].T @ (relation.constant + relation.linear * bias[turned])
    alpha[turned] *= relation.sign
    inner[turned] *= -1
    bias[turned] *= -1
    if k:
        stretch = np.exp(rng.normal(0.0, 1.0, owner.size))
        alpha, inner, bias = alpha / stretch[:, None] ** k, inner * stretch[:, None], bias * stretch
    return Network(alpha, inner, bias, a.activation, affine=affine, offset=offset)


def one_changed(b, rng: np.random.Generator):
    """One neuron replaced by another of the same sizes."""
    inner, i = b.inner.copy(), int(rng.integers(b.width))
    fresh = rng.standard_normal(b.d)
    inner[i] = fresh * np.linalg.norm(inner[i]) / np.linalg.norm(fresh)
    return b.with_(inner=inner)


def noisy(a, rng: np.random.Generator, size: float):
    """A permuted, every weight moved by ``size`` standard deviations of its tensor."""
    order = rng.permutation(a.width)

    def moved(x):
        return (x + size * x.std() * rng.standard_normal(x.shape))[order]

    return a.with_(outer=moved(a.outer), inner=moved(a.inner), bias=moved(a.bias))


def size_of(a, samples: int = 256) -> float:
    """√E‖f_A‖² under N(0, I), by sampling: only to print bounds in proportion."""
    x = np.random.default_rng(9).standard_normal((samples, a.d))
    return float(np.sqrt(np.mean(np.sum(a(x) ** 2, axis=1))))


def files(folder: Path, activation: str, n: int, d: int, m: int, noise: float) -> float:
    """Write a, copy, one, noise.safetensors (float32) to ``folder``; returns the size of f_A."""
    import sparsemf

    rng = np.random.default_rng(n)
    a = he_network(rng, activation, n, d, m)
    sparsemf.save(a, folder / "a.safetensors", dtype="float32")
    b = copied(a, rng)
    sparsemf.save(b, folder / "copy.safetensors", dtype="float32")
    sparsemf.save(one_changed(b, rng), folder / "one.safetensors", dtype="float32")
    sparsemf.save(noisy(a, rng, noise), folder / "noise.safetensors", dtype="float32")
    return size_of(a)


def command(arguments: Sequence[str], threads: int = _THREADS) -> tuple[int, float, float]:
    """Run ``sparsemf …`` in a process of its own: (exit code, seconds, peak GiB).  Output goes to stderr."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsemf_cli", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, seconds, used.ru_maxrss / 2**20
