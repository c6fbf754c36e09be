"""A family of networks whose moment map is studied: S atoms on R^d, m outputs, with or without biases.

f(x) = Σ_{i ≤ S} α_i σ(⟨w_i, x⟩ + b_i) + A x + c under N(0, I), and Ψ_D = (T_k)_{k ≤ D} with the Hermite tensors

    T_k = Σ_i α_i c_k(‖w_i‖, b_i) ŵ_i^{⊗k}  (+ c in degree 0, A in degree 1),   c_k(r, b) = E σ(rg + b) he_k(g).

The degrees that a free polynomial part fills say nothing of the atoms and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]

HIGHEST = 40
_SCALES = (0.4, 0.9, 1.7)
_SHIFTS = (0.3, -0.8, 1.1)
_SILENT = 1e-11


@dataclass(frozen=True)
class Family:
    """``bias``: the b_i are parameters (else 0).  ``free``: the highest degree of the free polynomial part: −1 none, 0
    the offset c, 1 the affine part (A, c).  Raises :class:`InputError` for sizes below 1 and other ``free``.
    """

    activation: Activation
    atoms: int
    d: int
    m: int
    bias: bool
    free: int

    def __post_init__(self) -> None:
        for name, value in (("atoms", self.atoms), ("d", self.d), ("m", self.m)):
            if value < 1:
                raise InputError(f"depth: expected {name} ≥ 1, got {value}")
        if self.free not in (-1, 0, 1):
            raise InputError(f"depth: expected a free part of degree −1 (none), 0 or 1, got {self.free}")

    @cached_property
    def seen(self) -> tuple[bool, ...]:
        """Whether c_k is not identically 0 on the family, k = 0 … 40 (computed at a few scales: an estimate)."""
        r = np.array(_SCALES)
        c = self.activation.hermite(r, np.array(_SHIFTS) if self.bias else np.zeros(r.size), HIGHEST)
        # relative to what c_k of this smoothness may be: r^k/√k! times the largest
        return tuple(bool(x) for x in np.any(np.abs(c) > _SILENT * np.abs(c).max(), axis=0))

    def degrees(self, depth: int) -> list[int]:
        """The degrees ≤ ``depth`` that say something of the atoms."""
        known = [k for k in range(self.free + 1, min(depth, HIGHEST) + 1) if self.seen[k]]
        if self.bias or depth <= 8:
            return known
        # c_k decays below the threshold at high degrees, the parity does not change
        parities = {k % 2 for k in known if k >= 5}
        return [k for k in range(self.free + 1, depth + 1) if k in known or (k > 8 and k % 2 in parities)]

    @property
    def orbit(self) -> int:
        """Dimension of one atom's orbit: scaling of homogeneous σ, the translation of exp with biases."""
        return int(self.activation.homogeneous is not None or (self.bias and self.activation.name == "exp"))

    @property
    def target(self) -> int:
        """The rank of JΨ_D, without the free part, at which atoms are locally identified."""
        return self.atoms * (self.m + self.d + self.bias - self.orbit)

    @property
    def continuous(self) -> bool:
        """Whether the orbits of σ are larger than ``orbit`` says (polynomial σ)."""
        return self.activation.kind in ("matrix", "quadratic", "tensor")

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Random atoms (α (S, m), w (S, d), b (S,)): Gaussian directions, lengths in [0.6, 2]."""
        w = rng.standard_normal((self.atoms, self.d))
        w *= rng.uniform(0.6, 2.0, (self.atoms, 1)) / np.linalg.norm(w, axis=1, keepdims=True)
        alpha = rng.standard_normal((self.atoms, self.m))
        return alpha, w, rng.uniform(-1.0, 1.0, self.atoms) * self.bias
