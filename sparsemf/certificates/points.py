"""Points where a difference of two networks is large: random samples, the heaviest directions, gradient ascent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.grouped import Groups
from sparsemf.measures import Ball, Empirical, InputLaw, Network

Array = NDArray[np.float64]

_BUDGET = 4e9
"""Multiply-adds that the search may spend on one evaluation of all candidates."""


class Difference:
    """f_A − f_B as a function with its gradient, whatever the two activations."""

    def __init__(self, a: Network, b: Network | None) -> None:
        self.parts = [(a, 1.0)] if b is None else [(a, 1.0), (b, -1.0)]
        self.d = a.d
        self.work = float(sum(f.width * (f.d + f.m) for f, _ in self.parts)) + 1.0

    def __call__(self, x: Array) -> Array:
        return sum((sign * f(x) for f, sign in self.parts), np.zeros(1))

    def ascent(self, x: Array) -> Array:
        """∇ ½‖h‖² at each row (finite differences along the heaviest directions for gated blocks)."""
        out = self(x)
        gradient = np.zeros_like(x)
        for f, sign in self.parts:
            pull = sign * (out @ f.alpha.T)
            gate, bias = getattr(f, "gate", None), getattr(f, "gate_bias", None)
            z = x @ f.inner.T + f.bias
            if gate is None or bias is None:
                gradient += (pull * f.activation.derivative(z)) @ f.inner
            else:
                u = x @ gate.T + bias
                gradient += (pull * f.activation.derivative(u) * z) @ gate + (pull * f.activation.value(u)) @ f.inner
            gradient += sign * (out @ f.affine)
            quadratic = getattr(f, "quadratic", None)
            if quadratic is not None:
                gradient += 2 * sign * np.einsum("nm,mij,nj->ni", out, quadratic, x)
        return gradient

    def directions(self, count: int) -> Array:
        """Unit directions of the heaviest neurons."""
        found = []
        for f, _ in self.parts:
            gate = getattr(f, "gate", None)
            w = f.inner if gate is None else gate
            length = np.linalg.norm(w, axis=1)
            heavy = np.argsort(-np.linalg.norm(f.alpha, axis=1) * length)[: count // 2]
            found.append(w[heavy] / np.where(length[heavy] > 0, length[heavy], 1.0)[:, None])
        return np.concatenate(found)


def best_point(h: Difference | Linearised, law: InputLaw, domain: Ball | None, seed: int) -> Array:
    """The best point found, inside the ball when there is one."""
    rng = np.random.default_rng(seed)
    count = int(np.clip(_BUDGET / h.work, 32, 2048))
    x = _candidates(h, law, domain, rng, count)
    with np.errstate(over="ignore", invalid="ignore"):
        top = x[np.argsort(-_size(h, x))[: 8 if count > 64 else 2]]
        if domain is not None:
            top = _ascend(h, top, domain, 60 if count > 64 else 4)
            # inside the ball whatever the rounding
            norm = np.maximum(np.linalg.norm(top, axis=1), 1e-300)
            top *= np.minimum(1.0, domain.radius * (1 - 1e-12) / norm)[:, None]
        return top[int(np.argmax(_size(h, top)))]


def _size(h: Difference | Linearised, x: Array) -> Array:
    size = np.linalg.norm(h(x), axis=1)
    return np.where(np.isfinite(size), size, -1.0)


def _candidates(
    h: Difference | Linearised, law: InputLaw, domain: Ball | None, rng: np.random.Generator, count: int
) -> Array:
    if isinstance(law, Empirical) and domain is None:
        return law.x[rng.permutation(law.x.shape[0])[:count]]
    sample = rng.standard_normal((count, h.d)) if domain is not None else law.sample(count, rng)  # type: ignore[union-attr]
    mean = np.zeros(h.d) if domain is not None else law.mean  # type: ignore[union-attr]
    unit = h.directions(max(count // 16, 8))
    x = np.concatenate([sample, *(t * unit + mean for t in (-2.0, -1.0, 1.0, 2.0))])
    if domain is not None:
        norm = np.maximum(np.linalg.norm(x, axis=1), 1e-300)[:, None]
        x = np.concatenate([x / norm * domain.radius, x * np.minimum(1.0, domain.radius / norm)])
    return x


def _ascend(h: Difference | Linearised, x: Array, domain: Ball, steps: int) -> Array:
    """Projected gradient ascent of ½‖h‖² from each row, with a step halved whenever it fails."""
    value = _size(h, x)
    rate = np.full(x.shape[0], 0.5 * domain.radius)
    for _ in range(steps):
        gradient = h.ascent(x)
        length = np.maximum(np.linalg.norm(gradient, axis=1), 1e-300)[:, None]
        trial = x + rate[:, None] * gradient / length
        trial *= np.minimum(1.0, domain.radius / np.maximum(np.linalg.norm(trial, axis=1), 1e-300))[:, None]
        new = _size(h, trial)
        better = new > value
        x = np.where(better[:, None], trial, x)
        value = np.where(better, new, value)
        rate = np.where(better, rate * 1.2, rate * 0.5)
    return x


class Linearised:
    """f_A − f_B to first order in the distances within groups: where float64 cannot see the difference itself,

    Σ_g κ_g σ(u_g) + Σ_i α_i σ′(u_{g(i)})·(u_i − t_i u_g) + R, as measured by the checker's grouping.  Guides the
    search only.
    """

    def __init__(self, h: Expanded, groups: Groups, slope: Array, constant: Array) -> None:
        self.h, self.groups, self.slope, self.constant = h, groups, slope, constant
        self.d = h.w.shape[1]
        self.work = float(h.w.size + h.alpha.size) + 1.0
        turn = groups.flip[groups.head].astype(float)
        self.head_w, self.head_b = h.w[groups.head] * turn[:, None], h.b[groups.head] * turn
        self.sign = np.ones(h.core.size)
        for core, rows in h.cores():
            if core.flip is not None:
                self.sign[rows] = np.where(groups.flip[rows] < 0, core.flip[0], 1)
        # R of the bound holds μ-parts; here they are part of σ
        self.centre = np.zeros(h.core.size)
        for core, rows in h.cores():
            self.centre[rows] = core.centre

    def _slopes(self, x: Array) -> tuple[Array, Array]:
        z = x @ self.head_w.T + self.head_b
        value, slope = np.zeros_like(z), np.zeros_like(z)
        step = 1e-6
        for core, rows in self.h.cores():
            own = np.flatnonzero(np.isin(self.groups.head, rows))
            value[:, own] = core.value(z[:, own]) - core.centre * z[:, own]
            slope[:, own] = (core.value(z[:, own] + step) - core.value(z[:, own] - step)) / (2 * step) - core.centre
        return value, slope

    def __call__(self, x: Array) -> Array:
        value, slope = self._slopes(x)
        gap = x @ self.groups.gap_w.T + self.groups.gap_b
        moved = slope[:, self.groups.label] * gap * self.sign
        return value @ self.groups.total + moved @ self.h.alpha + x @ self.slope.T + self.constant

    def ascent(self, x: Array) -> Array:
        """The gradient with σ″ left out."""
        out = self(x)
        _, slope = self._slopes(x)
        pull = (out @ self.groups.total.T) * slope
        moved = (out @ self.h.alpha.T) * slope[:, self.groups.label] * self.sign
        return pull @ self.head_w + moved @ self.groups.gap_w + out @ self.slope

    def directions(self, count: int) -> Array:
        """Unit directions of the heaviest distances and atoms."""
        weight = np.linalg.norm(self.h.alpha, axis=1)
        gap = weight * np.linalg.norm(self.groups.gap_w, axis=1)
        heavy = np.argsort(-gap)[: count // 2]
        total = np.linalg.norm(self.groups.total, axis=1) * np.linalg.norm(self.head_w, axis=1)
        w = np.concatenate([self.groups.gap_w[heavy], self.head_w[np.argsort(-total)[: count // 2]]])
        length = np.linalg.norm(w, axis=1)
        return w[length > 0] / length[length > 0, None]
