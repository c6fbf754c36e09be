"""Input laws ρ: where distances between functions are measured.

Gaussian N(m, Σ) is kept as (mean, root) with Σ = root·rootᵀ, so that x = mean + root·g with g ~ N(0, I_k) and a
neuron reads w′ = rootᵀw, b′ = b + ⟨w, mean⟩ in the coordinates of g (:meth:`Gaussian.whiten`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.exceptions import InputError
from sparsemf.measures.network import LARGEST, Network

Array = NDArray[np.float64]


class InvalidLaw(InputError):
    """An input law that does not fit; the message says what was expected and what came."""


def _finite(name: str, value: ArrayLike) -> Array:
    array = np.array(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InvalidLaw(f"{name}: expected finite numbers")
    array.flags.writeable = False
    return array


def _some_column(root: Array) -> Array:
    """``root``, or one column of zeros for a point mass (coordinates of dimension 0 are not a network's)."""
    return root if root.shape[1] else np.zeros((root.shape[0], 1))


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, root·rootᵀ); ``mean`` (d,), ``root`` (d, k), any factor of the covariance (singular allowed)."""

    mean: Array
    root: Array
    name: str = "gaussian(mean, covariance)"

    @staticmethod
    def standard(d: int) -> Gaussian:
        """N(0, I_d)."""
        return Gaussian(np.zeros(d), np.eye(d), "gaussian")

    @staticmethod
    def of(mean: ArrayLike, covariance: ArrayLike, name: str = "gaussian(mean, covariance)") -> Gaussian:
        """N(mean, covariance) from a (d, d) covariance; raises :class:`InvalidLaw` unless it is positive
        semi-definite to rounding."""
        mean, covariance = _finite("mean", mean), _finite("covariance", covariance)
        if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
            raise InvalidLaw(f"expected mean (d,) and covariance (d, d), got {mean.shape} and {covariance.shape}")
        if not np.allclose(covariance, covariance.T, rtol=1e-10, atol=0):
            raise InvalidLaw("covariance: expected a symmetric matrix")
        values, vectors = np.linalg.eigh(covariance)
        if values[0] < -1e-10 * max(values[-1], 0.0):
            raise InvalidLaw(f"covariance: expected no negative eigenvalue, got {values[0]:.3g}")
        # eigenvalues at rounding level are zero: their directions are invisible
        seen = values > mean.size * float(np.finfo(np.float64).eps) * max(float(values[-1]), 0.0)
        return Gaussian(mean, _some_column(vectors[:, seen] * np.sqrt(values[seen])), name)

    @staticmethod
    def layernorm(gain: ArrayLike, shift: ArrayLike) -> Gaussian:
        """N(β, diag γ²): what a block behind a LayerNorm of gain γ and shift β sees, to leading order in d."""
        gain, shift = _finite("LayerNorm gain", gain), _finite("LayerNorm shift", shift)
        if gain.ndim != 1 or gain.shape != shift.shape:
            raise InvalidLaw(f"expected LayerNorm gain and shift of one shape (d,), got {gain.shape}, {shift.shape}")
        return Gaussian(shift, _some_column(np.diag(gain)[:, gain != 0]), "layernorm")

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.mean.size

    def whiten(self, network: Network) -> Network:
        """The same function in the coordinates g ~ N(0, I_k)."""
        if network.d != self.d:
            raise InvalidLaw(f"expected a law on R^{network.d}, got one on R^{self.d}")
        if self.is_standard:
            return network
        affine, offset = network.affine, network.offset
        changes: dict[str, Array] = {}
        if network.quadratic is not None:
            # (m + Rg)ᵀQ(m + Rg) = gᵀRᵀQRg + 2(Qm)ᵀRg + mᵀQm
            pulled = network.quadratic @ self.mean
            changes["quadratic"] = self.root.T @ network.quadratic @ self.root
            # the line below adds 2mᵀQm
            affine, offset = affine + 2 * pulled, offset - pulled @ self.mean
        if network.gate is not None and network.gate_bias is not None:
            changes["gate"] = network.gate @ self.root
            changes["gate_bias"] = network.gate_bias + network.gate @ self.mean
        return network.with_(
            inner=network.inner @ self.root,
            bias=network.bias + network.inner @ self.mean,
            affine=affine @ self.root,
            offset=offset + affine @ self.mean,
            **changes,
        )

    def whitening_error(self, network: Network) -> float:
        """Bound in L² of what :meth:`whiten` rounds: (d + 4)·UNIT·[Σ‖α_i‖·M_i·size_i + the polynomial part alike],

        size_i = ‖w_i‖(‖root‖_F + ‖mean‖) + |b_i|, M_i = :meth:`Activation.modulus` of the whitened neuron, widened
        so that it holds for the exact and the rounded one alike.  Raises :class:`InvalidLaw` for a gated network.
        """
        if network.gated:
            raise InvalidLaw("expected an ungated network for this rounding margin, got a gated one")
        if self.is_standard:
            return 0.0
        reach = float(np.linalg.norm(self.root) + np.linalg.norm(self.mean))
        size = np.linalg.norm(network.inner, axis=1) * reach + np.abs(network.bias)
        widening = (self.d + 4) * float(np.finfo(np.float64).eps) * size
        inner, bias = network.inner @ self.root, network.bias + network.inner @ self.mean
        with np.errstate(over="ignore"):
            modulus = network.activation.modulus(np.linalg.norm(inner, axis=1) + widening, np.abs(bias) + widening)
        mass = float(np.linalg.norm(network.alpha, axis=1) @ (modulus * size))
        mass += float(np.linalg.norm(network.affine)) * reach + float(np.linalg.norm(network.offset))
        if network.quadratic is not None:
            # what reaches Q, A and c, and ‖gᵀΔg‖ ≤ √(3d)·‖Δ‖_F in L²
            mass += 4 * np.sqrt(3.0 * self.d) * float(np.linalg.norm(network.quadratic)) * reach**2
        return (self.d + 4) * float(np.finfo(np.float64).eps) * mass

    @property
    def is_standard(self) -> bool:
        """Whether this is N(0, I_d)."""
        return not self.mean.any() and np.array_equal(self.root, np.eye(self.d))

    def unwhiten(self, inner: Array, bias: Array) -> tuple[Array, Array]:
        """Atoms (w′, b′) of the coordinates g as atoms of x: w = (rootᵀ)⁺w′ (least norm), b = b′ − ⟨w, mean⟩.

        Exact as functions of x on the support of ρ.
        """
        if self.is_standard:
            return inner, bias
        w = inner @ np.linalg.pinv(self.root)
        return w, bias - w @ self.mean

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """n independent inputs, shape (n, d)."""
        return self.mean + rng.standard_normal((n, self.root.shape[1])) @ self.root.T


@dataclass(frozen=True, eq=False)
class Empirical:
    """The uniform law on the rows of ``x`` (n, d)."""

    x: Array
    name: str = field(default="empirical")

    @staticmethod
    def of(x: ArrayLike, name: str = "empirical") -> Empirical:
        """Validated: (n, d), n ≥ 1, finite, of size at most 1e100."""
        x = _finite("inputs", x)
        if x.ndim != 2 or x.shape[0] < 1:
            raise InvalidLaw(f"inputs: expected a data matrix (n, d) with n ≥ 1, got shape {x.shape}")
        largest = float(np.max(np.abs(x), initial=0.0))
        if largest > LARGEST:
            raise InvalidLaw(f"inputs: expected numbers of size at most {LARGEST:g}, got {largest:.3g}")
        return Empirical(x, name)

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.x.shape[1]


@dataclass(frozen=True)
class Ball:
    """The domain ‖x‖ ≤ radius of the sup norm."""

    radius: float
    name: str = field(default="ball")

    def __post_init__(self) -> None:
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise InvalidLaw(f"radius: expected a positive number, got {self.radius}")


InputLaw = Gaussian | Empirical
