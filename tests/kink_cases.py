"""Networks of one-kink atoms on shared directions, their exact distances, and their Hermite tensors written out."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.polynomial import hermite_e
from numpy.typing import NDArray
from scipy import special

from sparsemf.measures import Gaussian, Network, l2_distance

Array = NDArray[np.float64]


def shared(
    rng: np.random.Generator,
    d: int,
    lines: int,
    biases: int,
    activation: str = "relu",
    outputs: int = 1,
    apart: float = 0.4,
) -> Network:
    """``lines`` directions with ``biases`` atoms each, kinks −b/‖w‖ in [−1.5, 1.5] and ``apart`` from one another."""
    w, t = [], []
    for _ in range(lines):
        line = rng.standard_normal(d)
        kinks = np.sort(rng.uniform(-1.5, 1.5, biases))
        while biases > 1 and np.min(np.diff(kinks)) < apart:
            kinks = np.sort(rng.uniform(-1.5, 1.5, biases))
        for kink in kinks:
            length = rng.uniform(0.5, 2.0) * rng.choice([-1.0, 1.0])
            w.append(length * line / np.linalg.norm(line))
            t.append(-kink * length)
    n = len(t)
    outer = rng.uniform(0.5, 1.5, (n, outputs)) * rng.choice([-1.0, 1.0], (n, outputs))
    return Network(outer, w, t, activation, affine=0.3 * rng.standard_normal((outputs, d)))


def low_degrees(f: Network) -> tuple[Array, Array]:
    """(T_0 (m,), T_1 (m, d)) of a relu network under N(0, I) in closed form."""
    r = np.linalg.norm(f.inner, axis=1)
    live = r > 0
    beta = np.where(live, f.bias / np.where(live, r, 1.0), 0.0)
    tail, density = special.ndtr(beta), np.exp(-0.5 * beta**2) / math.sqrt(2 * math.pi)
    c0 = np.where(live, f.bias * tail + r * density, np.maximum(f.bias, 0.0))
    return f.alpha.T @ c0 + f.offset, f.alpha.T @ (tail[:, None] * live[:, None] * f.inner) + f.affine


def distance(f: Network, g: Network) -> float:
    """An upper bound of ‖f − g‖ for the best affine part of g, by the closed kernel."""
    (c, a), (c_other, a_other) = low_degrees(f), low_degrees(g)
    best = g.with_(offset=g.offset + c - c_other, affine=g.affine + a - a_other)
    return l2_distance(f, best, Gaussian.standard(f.d)).upper


def tensors(f: Network, degree: int) -> dict[int, Array]:
    """T_k (m, d, …, d) of a relu network by definition, c_k = E relu(rg + b)he_k(g) by quadrature beyond the kink."""
    r = np.linalg.norm(f.inner, axis=1)
    node, weight = np.polynomial.legendre.leggauss(200)
    found = {}
    for k in range(2, degree + 1):
        total = np.zeros((f.m,) + (d := f.d,) * k)
        for i in range(f.width):
            start = -f.bias[i] / r[i]
            g = start + 8.0 * (node + 1)
            value = (r[i] * g + f.bias[i]) * np.exp(-0.5 * g * g) / math.sqrt(2 * math.pi)
            he = hermite_e.hermeval(g, np.eye(k + 1)[k]) / math.sqrt(math.factorial(k))
            power = np.array(8.0 * float(weight @ (value * he)))
            for _ in range(k):
                power = np.multiply.outer(power, f.inner[i] / r[i])
            total += np.multiply.outer(f.alpha[i], power)
        found[k] = total
    assert d == f.d
    return found


def symmetric_basis(d: int, k: int) -> Array:
    """An orthonormal basis of the symmetric tensors of order k, shape (C(d + k − 1, k), d, …, d)."""
    orbit = np.array([np.ravel_multi_index(sorted(index), (d,) * k) for index in product(range(d), repeat=k)])
    _, label, size = np.unique(orbit, return_inverse=True, return_counts=True)
    basis = np.eye(size.size)[:, label] / np.sqrt(size)[:, None]
    return basis.reshape(size.size, *(d,) * k)


def block(t: dict[int, Array], d: int, p: int, j: int, q: int, low: int) -> Array:
    """The block (p, j), (q, l) of M without weights for *any* symmetric tensors T_k (d, …, d), by contractions."""
    n, total = p + q, np.zeros((d,) * (p + q))
    for r in range(min(j, low) + 1):
        k = j + low - 2 * r + 2
        tensor = math.sqrt(math.factorial(k)) * t.get(k, np.zeros((d,) * k))
        while tensor.ndim > n:
            tensor = np.trace(tensor, axis1=0, axis2=1)
        total = total + math.factorial(r) * math.comb(j, r) * math.comb(low, r) * tensor
    return total.reshape(d**p, d**q) / math.sqrt(math.factorial(j) * math.factorial(low))
