"""elu(α), selu, celu(α): right·relu(z) + left·(e^{rate·z} − 1)·1[z < 0] (Clevert et al. 2016; Klambauer et al. 2017).

With β = b/r, the exponential half has i_k = E[e^z 1(z < 0) he_k(g)]:

    i_0 = φ(β)·Mills(β + r),   i_k = (r·i_{k−1} − he_{k−1}(−β)φ(β))/√k,
    E[(e^z − 1)1(z < 0) he_k] = (r/√k)·i_{k−1},

Mills(x) = (1 − Φ(x))/φ(x).  The recurrence amplifies rounding by r^k/√k! ≤ e^{r²/2}, hence panels for r > 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import ROUND_UP, Activation, Array, Image, KernelValue, Term
from sparsemf.activations.bivariate import bivariate_normal_cdf, normal_density
from sparsemf.activations.entry import Entry
from sparsemf.activations.families.relu import relu_hermite, relu_kernel
from sparsemf.activations.kernels import refined, series_kernel
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register

_STEEPEST_CLOSED = 2.0
_SMALLEST_CLOSED = 0.25
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _half_exponential_mean(r: Array, b: Array) -> Array:
    """E[e^z 1(z < 0)], z = rg + b, r > 0, without cancellation for any size."""
    beta = b / r
    x = beta + r
    right = normal_density(beta) * np.sqrt(np.pi / 2) * special.erfcx(np.maximum(x, 0.0) / np.sqrt(2))
    # x < 0 means b < −r², so the exponent below is negative and small
    left = np.exp(np.minimum(b + 0.5 * r * r, 0.0)) * special.ndtr(-x)
    return np.where(x >= 0, right, left)


class ExponentialLinear(Activation):
    """σ(z) = right·relu(z) + left·(e^{rate·z} − 1)·1[z < 0]."""

    strip = 0.0
    breaks = (0.0,)

    def __init__(self, name: str, right: float, left: float, rate: float, image: Image | None) -> None:
        self.name = name
        self.right, self.left, self.rate = right, left, rate
        self.lipschitz = max(right, left * rate) * (ROUND_UP if (right, left * rate) != (1.0, 1.0) else 1.0)
        self.grain = min(1.0, 1.0 / rate)
        self.image = image

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        negative = self.rate * -ops.maximum0(-z)
        step = ops.step(z)
        value = self.right * ops.maximum0(z) + self.left * ops.expm1(negative)
        return value, self.right * step + (1.0 - step) * (self.left * self.rate * ops.exp(negative))

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing."""
        return np.maximum(np.abs(self.value(low)), np.abs(self.value(high))) * ROUND_UP

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """The closed form for slopes r·rate ≤ 2; steep neurons, and c₀ near 0 (where it cancels), by graded panels."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        out = np.empty((r.size, degree + 1))
        closed = (r * self.rate <= _STEEPEST_CLOSED) & (r > 0)
        if not closed.all():
            out[~closed] = super().hermite(r[~closed], b[~closed], degree)
        rows = np.flatnonzero(closed)
        s, m = self.rate * r[rows], self.rate * b[rows]
        beta = m / s
        term = _half_exponential_mean(s, m)
        own = self.right * relu_hermite(r[rows], b[rows], degree)
        own[:, 0] += self.left * (term - special.ndtr(-beta))
        previous, current = np.zeros(rows.size), normal_density(beta)  # he_{k−1}(−β)φ(β)
        for k in range(1, degree + 1):
            own[:, k] += self.left * s / np.sqrt(k) * term
            term = (s * term - current) / np.sqrt(k)
            previous, current = current, (-beta * current - np.sqrt(k - 1.0) * previous) / np.sqrt(k)
        out[rows] = own
        small = rows[np.hypot(s, m) < _SMALLEST_CLOSED]
        if small.size:
            out[small, :1] = super().hermite(r[small], b[small], 0)
        return out

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """The closed form where its rounding is small, else the series, else conditioning; never worse than its error.

        E[e^{pU + qV}·1(±U > 0, ±V > 0)·…] is a bivariate normal probability under the tilted law (means m₁ + ps₁² + qc
        and m₂ + pc + qs₂²) times e^{pm₁ + qm₂ + (p²s₁² + q²s₂² + 2pqc)/2}; that factor amplifies rounding.
        """
        broad = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        value, error = self._closed_kernel(*broad)
        wanted = 1e-12 * np.sqrt(self._energy(s1, m1) * self._energy(s2, m2))
        if (error > wanted).any():
            series = series_kernel(self, self, s1, m1, s2, m2, c)
            better = series.error < error
            value, error = np.where(better, series.value, value), np.where(better, series.error, error)
        return refined(self, self, broad, value, error, wanted)

    def _energy(self, s: Array, m: Array) -> Array:
        s, m = np.broadcast_arrays(np.asarray(s, float), np.asarray(m, float))
        return self.second_moment(s.ravel(), m.ravel()).reshape(s.shape)

    def _closed_kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> tuple[Array, Array]:
        """Value and stated rounding error; the error is infinite where s = 0."""
        flat = (s1 <= 0) | (s2 <= 0)
        safe1, safe2 = np.where(flat, 1.0, s1), np.where(flat, 1.0, s2)
        cov = np.where(flat, 0.0, c)
        t = self.rate
        value = self.right**2 * relu_kernel(safe1, m1, safe2, m2, cov)
        scale = self.right**2 * np.hypot(safe1, m1) * np.hypot(safe2, m2)
        for u, mu, v, mv in ((safe1, m1, safe2, m2), (safe2, m2, safe1, m1)):
            # E[relu(U)(e^{tV} − 1)1(V < 0)], and the same with U and V exchanged
            with np.errstate(over="ignore", invalid="ignore"):
                factor = np.exp(t * mv + 0.5 * (t * v) ** 2)
                mixed = factor * _relu_and_negative(u, mu + t * cov, v, mv + t * v * v, cov)
                value = value + self.right * self.left * (mixed - _relu_and_negative(u, mu, v, mv, cov))
                scale = scale + self.right * self.left * (
                    np.hypot(u, mu) + factor * np.hypot(u, np.abs(mu) + t * np.abs(cov))
                )
        rho = np.clip(cov / safe1 / safe2, -1.0, 1.0)
        for p, q, sign in ((1, 1, 1.0), (1, 0, -1.0), (0, 1, -1.0), (0, 0, 1.0)):
            p, q = p * t, q * t
            with np.errstate(over="ignore", invalid="ignore"):
                factor = np.exp(p * m1 + q * m2 + 0.5 * ((p * safe1) ** 2 + (q * safe2) ** 2) + p * q * cov)
                tilted1, tilted2 = m1 + p * safe1**2 + q * cov, m2 + q * safe2**2 + p * cov
                both = bivariate_normal_cdf(-tilted1 / safe1, -tilted2 / safe2, rho)
                value = value + sign * self.left**2 * factor * both
                scale = scale + self.left**2 * factor * (1 + np.abs(tilted1 / safe1) + np.abs(tilted2 / safe2))
        # Φ₂ and the densities move by 1/√(1 − ρ²) times the rounding of ρ
        sensitivity = 1.0 / np.sqrt(np.maximum((1 - rho) * (1 + rho), 1e-15))
        error = 256 * np.finfo(float).eps * scale * sensitivity
        bad = flat | ~np.isfinite(value) | ~np.isfinite(error)
        return np.where(bad, 0.0, value), np.where(bad, np.inf, error)


def _relu_and_negative(su: Array, mu: Array, sv: Array, mv: Array, c: Array) -> Array:
    """E[relu(U)·1(V < 0)] = m_u·P(U > 0, V < 0) + s_u φ(α)Φ(·) − (c/s_v) φ(ν)Φ(·), by Stein's identity."""
    rho = np.clip(c / su / sv, -1.0, 1.0)
    q = np.sqrt((1.0 - rho) * (1.0 + rho))
    alpha, nu = mu / su, mv / sv
    safe = np.where(q > 0, q, 1e-300)
    with np.errstate(over="ignore"):
        given_u = special.ndtr(-(nu - rho * alpha) / safe)  # P(V < 0 | U = 0)
        given_v = special.ndtr((alpha - rho * nu) / safe)  # P(U > 0 | V = 0)
    probability = bivariate_normal_cdf(alpha, -nu, -rho)
    return mu * probability + su * (normal_density(alpha) * given_u - rho * normal_density(nu) * given_v)


def _check(alpha: float) -> float:
    if not 0.0 < alpha < np.inf:
        raise ValueError(f"expected a finite α > 0, got {alpha}; α = 0 is relu")
    return alpha


def _elu(alpha: float = 1.0) -> ExponentialLinear:
    image = None if _check(alpha) == 1.0 else Image((Term(1.0 - alpha, "relu"), Term(alpha, "elu")))
    return ExponentialLinear("elu" if alpha == 1.0 else f"elu({alpha!r})", 1.0, alpha, 1.0, image)


def _celu(alpha: float = 1.0) -> ExponentialLinear:
    image = Image((Term(_check(alpha), "elu", 1.0 / alpha),))
    return ExponentialLinear("celu" if alpha == 1.0 else f"celu({alpha!r})", 1.0, alpha, 1.0 / alpha, image)


def _selu() -> ExponentialLinear:
    left = SELU_SCALE * SELU_ALPHA
    image = Image((Term(SELU_SCALE * (1.0 - SELU_ALPHA), "relu"), Term(left, "elu")))
    return ExponentialLinear("selu", SELU_SCALE, left, 1.0, image)


def _entry(formula: str, source: str) -> Entry:
    return Entry(
        formula=formula,
        group="none",
        inactive="–",
        independence="some derivative jumps on the atom's hyperplane, so atoms are separated by hyperplane; on one "
        "hyperplane σ(tz) is linear on one side and e^{tz} − 1 on the other, and exponentials of distinct rates (also "
        "−t: the other side) are independent of each other and of lines",
        source=source,
    )


register(
    "elu",
    _elu,
    _entry("z for z > 0, α(e^z − 1) for z ≤ 0 (default α = 1)", "Clevert, Unterthiner & Hochreiter, ICLR 2016"),
)
register("selu", _selu, _entry("1.0507·elu(z; α = 1.6733)", "Klambauer et al., NeurIPS 2017"))
register("celu", _celu, _entry("z for z > 0, α(e^{z/α} − 1) for z ≤ 0 (default α = 1)", "Barron 2017"))
