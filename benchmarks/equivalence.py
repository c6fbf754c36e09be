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
    owner, portion = (x[rng.permutation(owner.size)] for x in _together(owner, portion, rng))
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
