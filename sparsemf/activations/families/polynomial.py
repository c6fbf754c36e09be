"""linear, quadratic, cubic and hermite(k): polynomials, of which only finitely many moments are seen; everything exact.

Both families are Appell.  With z = rg + b and H_n(b; v) = b·H_{n−1} − (n − 1)v·H_{n−2} (generating function
e^{tb − vt²/2}),

    z^n = Σ_j C(n, j) r^j He_j(g) H_{n−j}(b; −r²),   He_n(z) = Σ_j C(n, j) r^j He_j(g) H_{n−j}(b; 1 − r²),

so c_j = C(n, j)√j!·r^j·H_{n−j}(b; v) and K = Σ_j C(n, j)² j!·c^j·H_{n−j}(m₁; v₁)H_{n−j}(m₂; v₂)  (Mehler, finite).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from sparsemf.activations.base import FOURTH_ROOT_OF_3, ROUND_UP, Activation, Array, Image, KernelValue, Kind, Relation
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register

HIGHEST_HERMITE = 8


def _appell(b: Array, v: Array, n: int) -> list[Array]:
    """H_0 … H_n at (b; v)."""
    out = [np.ones(np.broadcast(b, v).shape), np.broadcast_to(b, np.broadcast(b, v).shape)]
    for k in range(1, n):
        out.append(b * out[k] - k * v * out[k - 1])
    return out[: n + 1]


class Polynomial(Activation):
    """z^n, or the monic Hermite polynomial He_n(z) when ``hermite_family``."""

    kernel_closed = True
    kernel_ulps = 512
    lipschitz = float("inf")

    def __init__(self, name: str, n: int, kind: Kind, hermite_family: bool = False) -> None:
        self.name, self.n, self.kind, self.hermite_family = name, n, kind, hermite_family
        self.homogeneous = None if hermite_family else n
        self.polynomial_degree = n
        self.relation = Relation(sign=-1 if n % 2 else 1)
        if n == 1:
            self.lipschitz = 1.0
            self.image = Image((), (0.0, 1.0))

    @cached_property
    def coefficients(self) -> tuple[float, ...]:
        """Coefficients of z^0 … z^n."""
        basis = [0.0] * self.n + [1.0]
        return tuple(np.polynomial.hermite_e.herme2poly(basis).tolist()) if self.hermite_family else tuple(basis)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        # He_k by its recurrence: Horner cancels for large k
        before, value = 0.0 * z, 1.0 + 0.0 * z
        for k in range(self.n):
            before, value = value, z * value - (k * before if self.hermite_family else 0.0)
        return value, self.n * before

    def _variance(self, r: Array) -> Array:
        return (1.0 - r) * (1.0 + r) if self.hermite_family else -np.square(r)

    def _moments(self, r: Array, b: Array) -> list[Array]:
        """H_0 … H_n."""
        r, b = np.broadcast_arrays(np.asarray(r, float), np.asarray(b, float))
        return _appell(b, self._variance(r), self.n)

    def _magnitudes(self, r: Array, b: Array) -> list[Array]:
        """H_0 … H_n with every term made positive: what their rounding scales with; increasing in |b|."""
        r, b = np.broadcast_arrays(np.asarray(r, float), np.asarray(b, float))
        return _appell(np.abs(b), -np.abs(self._variance(r)), self.n)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """The ends and the interior critical points."""
        low, high = np.asarray(low, float), np.asarray(high, float)
        best = np.maximum(np.abs(self.value(low)), np.abs(self.value(high)))
        if self.hermite_family:
            for root in np.polynomial.hermite_e.hermegauss(self.n - 1)[0]:
                best = np.maximum(best, np.abs(self.value(np.clip(root, low, high))))
        largest = np.maximum(np.abs(low), np.abs(high))
        rounding = sum(abs(c) * largest**j for j, c in enumerate(self.coefficients))
        return best + 1e-14 * rounding

    def sup_slope(self, low: Array, high: Array) -> Array:
        """Σ_j j|coefficient_j|·max(|low|, |high|)^{j−1}."""
        slope = np.abs(np.polynomial.polynomial.polyder(self.coefficients))
        largest = np.maximum(np.abs(low), np.abs(high))
        return np.asarray(np.polynomial.polynomial.polyval(largest, slope), dtype=np.float64) * ROUND_UP

    def size(self, r: Array, b: Array) -> Array:
        """‖σ‖ = √Σ c_j², exact up to rounding."""
        return np.sqrt(self._energy(r, self._moments(r, b))) * ROUND_UP + 1e-14 * self.rounding_size(r, b)

    def rounding_size(self, r: Array, b: Array) -> Array:
        return np.sqrt(self._energy(r, self._magnitudes(r, b))) * ROUND_UP

    def _energy(self, r: Array, moments: list[Array]) -> Array:
        n = self.n
        return sum(
            (math.comb(n, j) ** 2 * math.factorial(j) * np.square(r) ** j * moments[n - j] ** 2 for j in range(n + 1)),
            np.zeros(moments[0].shape),
        )

    def modulus(self, r: Array, b: Array) -> Array:
        """3^{1/4}·Σ_j |σ′'s coefficient j|·‖z^j‖_{L⁴}, which grows with r and |b|."""
        r, b = np.broadcast_arrays(np.asarray(r, float), np.asarray(b, float))
        if self.n == 1:
            return np.ones(r.shape)
        powers = _appell(np.abs(b), -np.square(r), 4 * (self.n - 1))
        slope = np.polynomial.polynomial.polyder(self.coefficients)
        total = sum((abs(c) * powers[4 * j] ** 0.25 for j, c in enumerate(slope)), np.zeros(r.shape))
        return FOURTH_ROOT_OF_3 * total * ROUND_UP

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        r, b = np.asarray(r, float), np.asarray(b, float)
        out = np.zeros((r.size, degree + 1))
        moments = self._moments(r, b)
        for j in range(min(self.n, degree) + 1):
            out[:, j] = math.comb(self.n, j) * math.sqrt(math.factorial(j)) * r**j * moments[self.n - j]
        return out

    def second_moment(self, r: Array, b: Array) -> Array:
        r, b = np.asarray(r, float), np.asarray(b, float)
        return self._energy(r, self._moments(r, b))

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        first, second, n = self._moments(s1, m1), self._moments(s2, m2), self.n
        value = np.zeros(s1.shape)
        for j in range(n, -1, -1):
            value += math.comb(n, j) ** 2 * math.factorial(j) * c**j * first[n - j] * second[n - j]
        error = 32 * n * np.finfo(float).eps * self.rounding_size(s1, m1) * self.rounding_size(s2, m2)
        return KernelValue(value, error, closed=True)


def _hermite(k: float = 3.0) -> Polynomial:
    if k != int(k) or not 2 <= k <= HIGHEST_HERMITE:
        raise ValueError(f"expected a whole degree k from 2 to {HIGHEST_HERMITE}, got {k}; k = 1 is linear")
    return Polynomial(f"hermite({int(k)})", int(k), "tensor", hermite_family=True)


register(
    "linear",
    lambda: Polynomial("linear", 1, "matrix"),
    Entry(
        formula="z",
        group="everything: a_i → Σ_j a_j G_ji, w → G⁻¹w for invertible G",
        inactive="all neurons when the affine part is free",
        independence="none: only Σ a wᵀ and Σ a b are seen; S* = rank of Σ a wᵀ (0 when the affine part is free)",
        source="singular value decomposition",
    ),
    aliases=("identity",),
)
register(
    "quadratic",
    lambda: Polynomial("quadratic", 2, "quadratic"),
    Entry(
        formula="z²",
        group="(a/t², tw, tb), any t ≠ 0, and O(p, q) acting on the atoms of one output together",
        inactive="(w, b) = 0",
        independence="none: only the quadratic forms Σ a w̃w̃ᵀ, w̃ = (w, b), are seen; one output without bias: S* = "
        "rank of that form",
        source="spectral theorem; Sylvester's law of inertia",
    ),
    aliases=("square",),
)
register(
    "cubic",
    lambda: Polynomial("cubic", 3, "tensor"),
    Entry(
        formula="z³",
        group="(a/t³, tw, tb), any t ≠ 0",
        inactive="(w, b) = 0",
        independence="only Σ a ⊗ w̃^{⊗3} is seen; the atoms are unique below Kruskal's bound k_A + 3k_W ≥ 2S + 3 "
        "(k_A = 1 for one output: 3k_W ≥ 2S + 2), not in general",
        source="Kruskal 1977; Sidiropoulos & Bro 2000",
    ),
    aliases=("cube",),
)
register(
    "hermite",
    _hermite,
    Entry(
        formula=f"He_k(z), monic probabilists' Hermite polynomial, k = 2 … {HIGHEST_HERMITE} (default 3)",
        group="parity: (a, w, b) ~ ((−1)^k a, −w, −b)",
        inactive="–",
        independence="Σ a ⊗ w^{⊗k} and, where ‖w‖ ≠ 1 or b ≠ 0, lower tensors with weights H_{k−j}(b; 1 − ‖w‖²) are "
        "seen; unique below Kruskal's bound",
        source="Mehler 1866; Kruskal 1977; Sidiropoulos & Bro 2000",
    ),
)
