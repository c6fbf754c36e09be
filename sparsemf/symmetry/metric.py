"""The flip-invariant quotient metric between neurons.

A neuron lives on a *section* of the scaling action: for positively homogeneous σ (degree 1) the point
v = (w, b)/‖(w, b)‖ with coefficient κ = α‖(w, b)‖, otherwise v = (w, b) with κ = α.  (A minimum over the scalings
themselves would degenerate to 0.)  The finite rest of the group, the flip (κ, v) ~ (s·κ, −v), is minimised over:

    d(θ, θ′) = min_{e ∈ {1, flip}} √(‖v − e v′‖² + ‖κ − e κ′‖²).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.measures import Network

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Section:
    """Neurons on the section: ``points`` v (n, d+1), ``kappa`` (n, m), ``stretch`` t with (w, b) = t·v (n,)."""

    activation: Activation
    points: Array
    kappa: Array
    stretch: Array

    @staticmethod
    def of(network: Network) -> Section:
        """Every neuron of the network (none may be 0 when σ is homogeneous)."""
        points = np.concatenate([network.inner, network.bias[:, None]], axis=1)
        stretch = np.ones(network.width)
        if network.activation.homogeneous == 1:
            norm = np.linalg.norm(points, axis=1)
            # points already on the section keep their bits, which makes the canonical form idempotent
            stretch = np.where(np.abs(norm - 1.0) <= 8 * np.finfo(float).eps, 1.0, norm)
            points = points / np.where(stretch > 0, stretch, 1.0)[:, None]
        return Section(network.activation, points, network.alpha * stretch[:, None], stretch)

    @property
    def flips(self) -> bool:
        """Whether σ has a flip relation."""
        return self.activation.relation is not None

    @property
    def flip_sign(self) -> int:
        """s of the flip relation (1 when there is none)."""
        return self.activation.relation.sign if self.activation.relation else 1


def point_distances(first: Array, second: Array, flips: bool) -> tuple[Array, Array]:
    """min(‖v − v′‖, ‖v + v′‖) for all pairs and the sign that attains it; shapes (n, n′).

    The expansion ‖v‖² + ‖v′‖² ∓ 2⟨v, v′⟩ loses half the digits, so pairs closer than 1e-3 of their size are
    recomputed from differences.
    """
    squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1)[None]
    inner = first @ second.T
    sign = np.where(inner < 0, -1, 1) if flips else np.ones(inner.shape, dtype=int)
    square = np.maximum(squares - 2.0 * sign * inner, 0.0)
    near_i, near_j = np.nonzero(square <= 1e-6 * squares)
    for start in range(0, near_i.size, 1 << 16):
        i, j = near_i[start : start + (1 << 16)], near_j[start : start + (1 << 16)]
        square[i, j] = np.sum((first[i] - sign[i, j, None] * second[j]) ** 2, axis=1)
    return np.sqrt(square), sign


def quotient_distances(f: Network, g: Network) -> Array:
    """d(θ_i, θ′_j) for all neurons of f and g, shape (N_f, N_g)."""
    a, b = Section.of(f), Section.of(g)

    def combined(flipped: bool) -> Array:
        kappa_sign, point_sign = (a.flip_sign, -1.0) if flipped else (1.0, 1.0)
        first = np.concatenate([a.points, a.kappa], axis=1)
        second = np.concatenate([point_sign * b.points, kappa_sign * b.kappa], axis=1)
        return point_distances(first, second, flips=False)[0]

    return np.minimum(combined(False), combined(True)) if a.flips else combined(False)


def leaders(points: Array, radius: Array, flips: bool) -> tuple[Integers, Integers]:
    """Cover points by balls around leaders: (leader, sign) with ‖v_i − sign_i·v_leader‖ ≤ min of both radii.

    One sweep in the order of the flip-invariant projection |⟨u, v⟩| onto a fixed direction u; a leader can
    only serve points whose projection is within its radius, so the sweep looks at a short window: O(n log n) for
    the small radii at which duplicates are merged.  Earlier points of the *original* order lead later ones.
    """
    n, dimension = points.shape
    direction = np.random.default_rng(20260524).standard_normal(dimension)
    direction /= np.linalg.norm(direction)
    key = points @ direction
    key = np.abs(key) if flips else key
    order = np.argsort(key, kind="stable")
    leader, sign = np.arange(n), np.ones(n, dtype=np.int64)
    slack = 4 * np.finfo(float).eps * np.linalg.norm(points, axis=1) * np.sqrt(dimension)
    window: list[int] = []
    for i in order:
        window = [j for j in window if key[i] - key[j] <= radius[j] + slack[j] + slack[i]]
        if window:
            plus = np.linalg.norm(points[window] - points[i], axis=1)
            minus = np.linalg.norm(points[window] + points[i], axis=1) if flips else np.full(len(window), np.inf)
            nearest = np.minimum(plus, minus)
            hit = np.flatnonzero(nearest <= np.minimum(radius[window], radius[i]))
            if hit.size:
                best = hit[np.argmin(nearest[hit])]
                leader[i], sign[i] = window[best], 1 if plus[best] <= minus[best] else -1
                continue
        window.append(int(i))
    return leader, sign
