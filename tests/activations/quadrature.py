"""E[σ(U)τ(V)] by two nested composite Gauss rules that use nothing but the values of σ and τ."""

from __future__ import annotations

import numpy as np

from sparsemf.activations import Activation

EPS = 2.0**-52
#: (s1, m1, s2, m2, ρ)
PAIRS = [
    (0.7, 0.2, 1.1, -0.4, 0.3), (1.0, 0.0, 1.0, 0.0, -0.6), (1.5, -2.0, 0.6, 1.0, 0.95), (0.9, 0.4, 0.8, 0.3, 1 - 1e-6),
    (0.9, 0.4, 0.8, -0.3, 1e-9 - 1), (1.2, 0.5, 1.2, 0.5, 1.0), (1.2, 0.5, 0.7, 0.1, -1.0), (1e-7, 0.3, 1.0, 0.2, 0.5),
    (0.0, 0.6, 1.3, -0.2, 0.0), (0.0, 0.6, 0.0, -1.2, 0.0), (0.4, 6.0, 0.5, -5.0, 0.2), (5.0, 1.0, 4.0, -2.0, 0.7),
    (60.0, 20.0, 40.0, -30.0, -0.4), (800.0, 0.3, 900.0, -0.1, 0.999),
]  # fmt: skip
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(16)


def panels(low: float, high: float, kinks: list[float], grain: float) -> np.ndarray:
    """Ends of panels on [low, high] graded towards the kinks down to ``grain``."""
    graded = [k + sign * 0.5**j for k in kinks for sign in (-1, 0, 1) for j in range(int(np.ceil(-np.log2(grain))) + 2)]
    ends = np.concatenate([np.linspace(low, high, 15), kinks, graded])
    return np.unique(np.clip(ends, low, high))


def rule(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the composite Gauss rule with the normal density in the weights."""
    half, middle = 0.5 * np.diff(ends, axis=-1), 0.5 * (ends[..., 1:] + ends[..., :-1])
    g = (middle[..., None] + half[..., None] * POINTS).reshape(*ends.shape[:-1], -1)
    return g, (half[..., None] * WEIGHTS).reshape(g.shape) * np.exp(-0.5 * g * g) / np.sqrt(2 * np.pi)


def direct(first: Activation, second: Activation, s1: float, m1: float, s2: float, m2: float, rho: float) -> float:
    """∬ σ(m₁ + s₁g)·τ(m₂ + s₂(ρg + qh)) φ(g)φ(h) dh dg, both rules split and graded at the kinks (or at z = 0)."""
    q = np.sqrt((1 - rho) * (1 + rho))
    special = [(z - m1) / s1 for z in first.breaks or (0.0,)] if s1 else []
    special += [(z - m2) / (s2 * rho) for z in second.breaks or (0.0,)] if s2 * rho else []
    g, weight = rule(panels(-12.5, 12.5, special, min(0.25, 0.25 / max(s1, s2, 1.0), max(q, 1e-10))))
    centre = m2 + s2 * rho * g
    ends = np.linspace(-12.5, 12.5, 15) * np.ones((g.size, 1))
    if s2 * q:
        graded = 2.0 ** np.arange(-1, max(0, int(np.ceil(np.log2(26 * s2 * q)))))
        graded = np.concatenate([-graded, [0.0], graded]) / (s2 * q)
        for z in second.breaks or (0.0,):
            ends = np.concatenate([ends, ((z - centre) / (s2 * q))[:, None] + graded], axis=1)
    h, inner_weight = rule(np.sort(np.clip(ends, -12.5, 12.5), axis=1))
    mean = np.sum(inner_weight * second.value(centre[:, None] + s2 * q * h), axis=1)
    return float(np.sum(weight * first.value(m1 + s1 * g) * mean))


def pairs_of(*names: str) -> list[tuple[float, ...]]:
    """PAIRS, without the steep ones for exp (the integrand leaves the range) and for sin and cos (it oscillates)."""
    largest = 2 if "exp" in names else 50 if {"sin", "cos"} & set(names) else np.inf
    return [pair for pair in PAIRS if max(pair[0], pair[2]) < largest]


def both_sizes(first: Activation, second: Activation, s1: float, m1: float, s2: float, m2: float) -> float:
    return float(first.size(np.array([s1]), np.array([m1]))[0] * second.size(np.array([s2]), np.array([m2]))[0])
