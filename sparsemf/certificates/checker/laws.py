"""Norms that distances are measured in, as the bounds need them: how large a linear function ⟨w, x⟩ + b is.

- L²(N(mean, root·rootᵀ)): size² = ‖rootᵀw‖² + (b + ⟨w, mean⟩)²;
- L²(data): size² = mean over the rows of (⟨w, x⟩ + b)²;
- sup over ‖x‖ ≤ R: size = R‖w‖ + |b|.

``factor(q)`` bounds ‖ℓ‖_{L^q} ≤ factor·‖ℓ‖ for linear ℓ: (E g⁴)^{1/4} = 3^{1/4} and √(q − 1) for Gaussians
(hypercontractivity), n^{1/2 − 1/q} for data, 1 for the sup norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Arithmetic, Rows

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Norm:
    """One of the three norms; ``mean``/``root`` None stand for N(0, I)."""

    kind: Literal["gaussian", "empirical", "sup"]
    mean: Array | None = None
    root: Array | None = None
    rows: Array | None = None
    radius: float = 0.0

    @property
    def data(self) -> Array:
        """The rows of an empirical law."""
        if self.rows is None:
            raise ValueError("the data set of the empirical law is missing")
        return self.rows

    @property
    def standard(self) -> bool:
        """Whether this is N(0, I)."""
        return self.kind == "gaussian" and self.root is None

    def reach(self, d: int) -> float:
        """c with size(w, b) ≤ c·‖(w, b)‖."""
        if self.kind == "sup":
            return float(np.hypot(self.radius, 1.0)) * (1 + 1e-15)
        if self.kind == "empirical":
            return float(np.sqrt(np.max(np.sum(self.data**2, axis=1)) + 1.0)) * (1 + 1e-12)
        if self.root is None or self.mean is None:
            return 1.0
        return float(np.sqrt(np.sum(self.root**2) + np.sum(self.mean**2) + 1.0)) * (1 + 1e-12)

    def factor(self, q: int) -> float:
        """See the module's docstring."""
        if self.kind == "sup":
            return 1.0
        if self.kind == "empirical":
            return float(self.data.shape[0]) ** (0.5 - 1.0 / q) * (1 + 1e-15)
        return 1.3161 if q <= 4 else float(np.sqrt(q - 1.0)) * (1 + 1e-15)

    def white(self, arith: Arithmetic, w: Rows, b: Rows) -> tuple[Rows, Rows]:
        """(w, b) in the coordinates g of x = mean + root·g; rounding at most (d + 4)·unit·reach·‖(w, b)‖ a row."""
        if self.root is None or self.mean is None:
            return w, b
        off = self.root[~np.eye(*self.root.shape, dtype=bool)]
        if self.root.shape[0] == self.root.shape[1] and not off.any():
            inner = w * arith.array(np.diag(self.root))[None, :]
        else:
            inner = w @ arith.array(self.root)
        return inner, b + w @ arith.array(self.mean)

    def white_quadratic(self, arith: Arithmetic, q: Rows) -> tuple[Rows, float]:
        """xᵀqx as a form on (g, 1) (of x = mean + root·g; on (x, 1) for the other norms), and what that rounds."""
        d = q.shape[0]
        if self.kind != "gaussian" or self.root is None or self.mean is None:
            basis = np.concatenate([np.eye(d), np.zeros((d, 1))], axis=1)
        else:
            basis = np.concatenate([self.root, self.mean[:, None]], axis=1)
        basis = arith.array(basis)
        return basis.T @ q @ basis, 3 * (d + 4) * arith.unit * arith.norm(q) * (
            self.reach(d) ** 2 if self.root is not None else 0.0
        )

    def sizes(self, arith: Arithmetic, w: Rows, b: Rows) -> Array:
        """Upper bounds of the size of each row's linear function, shape (n,)."""
        d = w.shape[1]
        if w.shape[0] == 0:
            return np.zeros(0)
        if self.kind == "sup":
            return (self.radius * arith.norms(w) + arith.ups(abs(b))) * (1 + 1e-15)
        # hypot throughout: a weight multiplies what a square would lose
        slack = (d + 8) * arith.unit * (self.reach(d) if not self.standard else 0.0)
        if self.kind == "gaussian":
            inner, bias = self.white(arith, w, b)
            out = np.hypot(arith.norms(inner), arith.ups(abs(bias))) * (1 + 1e-15)
        else:
            out = np.zeros(w.shape[0])
            for start in range(0, self.data.shape[0], 512):
                x = arith.array(self.data[start : start + 512])
                out += arith.norms(w @ x.T + b[:, None]) ** 2
            out = np.sqrt(out / self.data.shape[0]) * (1 + (self.data.shape[0] + 8) * 2.0**-52)
        if slack:
            out = out + slack * np.hypot(arith.norms(w), arith.ups(abs(b))) * (1 + 1e-15)
        return out

    def affine(self, arith: Arithmetic, slope: Rows, constant: Rows) -> float:
        """Upper bound of the norm of x ↦ slope·x + constant (slope (m, d), constant (m,))."""
        if self.kind == "sup":
            return (self.radius * spectral(arith, slope) + arith.norm(constant)) * (1 + 1e-15)
        return float(np.sqrt(np.sum(self.sizes(arith, slope, constant) ** 2))) * (1 + (slope.shape[0] + 4) * 2.0**-52)

    def exponential(self, size: float) -> float:
        """C with ‖e^ℓ‖ ≤ C and ‖δ·e^ℓ‖ ≤ C·size(δ) for linear ℓ of at most that size S, any linear δ (∞ for data).

        Gaussian, ℓ of mean μ and variance v, μ² + v ≤ S²: ‖e^ℓ‖ = e^{μ + v} ≤ e^{S² + ¼}, and e^{2ℓ} tilts the mean
        of δ by 2cov(δ, ℓ), so E δ²e^{2ℓ} ≤ e^{2μ + 2v}(1 + 2√v)²·size(δ)².
        """
        if self.kind == "empirical" or size > 25:
            return float("inf")
        if self.kind == "sup":
            return float(np.exp(size)) * (1 + 1e-12)
        return float((1 + 2 * size) * np.exp(size * size + 0.25)) * (1 + 1e-12)


def spectral(arith: Arithmetic, x: Rows) -> float:
    """Upper bound of ‖x‖₂ ≤ ‖(xᵀx)^32‖_F^{1/64} (float64: of the float nearest each entry, plus what that loses).

    The powers are brought to length 1 before each squaring, so that their errors stay relative.
    """
    size = arith.norm(x)
    if size == 0.0 or not np.isfinite(size) or min(x.shape) == 1:
        return size
    mid = np.array([float(v.mid()) for v in x.ravel()]).reshape(x.shape) if arith.exact else x
    spread = float(np.linalg.norm([float(v.rad()) for v in x.ravel()])) * (1 + 1e-12) if arith.exact else 0.0
    mid = mid / size
    gram = mid.T @ mid if mid.shape[1] <= mid.shape[0] else mid @ mid.T
    ulps = (gram.shape[0] + 4) * 2.0**-52
    # ‖xᵀx‖₂/size² ≤ scale·(‖gram‖₂ + error)^root
    error, scale, root = (max(x.shape) + 8) * 2.0**-52, 1.0, 1.0
    for _ in range(5):
        length = float(np.sqrt(np.sum(gram * gram))) * (1 + gram.size * 2.0**-52)
        if not length > 0:
            return size
        gram, error = gram / length, error / length * (1 + 1e-15) + 2.0**-52
        scale *= length**root
        if not error < 1e-3:
            break
        gram, error, root = gram @ gram, 2.01 * error + ulps, 0.5 * root
    length = float(np.sqrt(np.sum(gram * gram))) * (1 + gram.size * 2.0**-52) + error
    bound = np.sqrt(scale * length**root) * (1 + 1e-13) + 1e-15
    return min(size, size * float(bound) + spread) if bound == bound else size


def norm_of_sum(arith: Arithmetic, vectors: Rows, lost: Array, weight: Array, size: Array) -> float:
    """Upper bound of ‖Σ_i v_i f_i‖ in any L² or sup norm, for functions with ‖f_i‖ ≤ ``size``_i.

    ``vectors`` (n, m) are the v_i up to ``lost`` (n,), ``weight`` (n,) ≥ ‖v_i‖.  For any t_i > 0, Cauchy–Schwarz at
    each point gives ‖Σ v_i f_i‖ ≤ ‖(t_i v_i)_i‖₂·√(Σ size_i²/t_i²); here t_i² = size_i/weight_i, which makes the bound
    at most the triangle inequality's Σ weight_i size_i, and smaller by up to √n/(1 + √(n/m)) for v_i of many
    directions.
    """
    if not np.isfinite(size[weight != 0]).all():
        return float("inf")
    live = np.flatnonzero((weight > 0) & (size > 0))
    mass = float(weight[live] @ size[live]) * (1 + (live.size + 4) * 2.0**-52)
    if not live.size or not np.isfinite(mass) or vectors.shape[1] == 1:
        return mass
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        t = np.sqrt(size[live] / weight[live])
    # a ratio that overflowed, or lost digits below the normal numbers, does not give Σ size²/t² ≤ mass
    if not (np.isfinite(t).all() and t.min() > 1e-150):
        return mass
    scaled = arith.array(t)[:, None] * vectors[live]
    rounded = float(np.linalg.norm(t * (lost[live] + 2 * arith.unit * weight[live]))) * (1 + 1e-12)
    # ‖A'‖² ≤ Σ weight_i size_i
    return min(mass, (spectral(arith, scaled) + rounded) * float(np.sqrt(mass)) * (1 + 1e-14))
