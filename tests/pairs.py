"""Random pairs of networks whose distance is known from elsewhere, for `certify`.

Every neuron's w is an exact multiple of one row h_j of a Hadamard matrix (entries ±1), so that f(x) = Σ_j F_j(⟨h_j,
x⟩) with independent ⟨h_j, x⟩ ~ N(mean_j, sd_j²) and, for a difference h of two such networks,

    ‖h‖² = Σ_j Var h_j + ‖Σ_j E h_j‖²,

one-dimensional integrals: composite Gauss–Legendre on panels cut at every kink, in float64, or with python-flint
where the difference cancels.  Under an empirical law the truth is the plain mean over the rows and weights are
arbitrary.  Activations are written out here once more; nothing of the library is used but the network type and the
group elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray
from scipy import linalg, special

from sparsemf.measures import Empirical, Gaussian, Network
from sparsemf.symmetry import disguise

Array = NDArray[np.float64]
RELATIVE = 1e-6
"""Relative error granted to the truths …"""
FLOOR = 1e-28
"""… and their absolute error."""

_BITS = 220
_POINTS = 24


# --- activations, in float64 and in balls -----------------------------------------------------------------------


def _ball_relu(z: arb) -> arb:
    return z if z > 0 else arb(0)


def _ball_elu(z: arb, alpha: arb) -> arb:
    return z if z > 0 else alpha * z.expm1()


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)

SIGMA: dict[str, tuple[Callable[[Array], Array], Callable[[arb], arb], tuple[float, ...]]] = {
    "relu": (lambda z: np.maximum(z, 0), _ball_relu, (0.0,)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: z if z > 0 else arb(0.01) * z, (0.0,)),
    "leaky_relu(0.3)": (lambda z: np.where(z > 0, z, 0.3 * z), lambda z: z if z > 0 else arb(0.3) * z, (0.0,)),
    "abs": (np.abs, lambda z: abs(z), (0.0,)),
    "relu2": (lambda z: np.maximum(z, 0) ** 2, lambda z: _ball_relu(z) * _ball_relu(z), (0.0,)),
    "relu6": (lambda z: np.clip(z, 0, 6), lambda z: _ball_relu(z) - _ball_relu(z - 6), (0.0, 6.0)),
    "hardtanh": (lambda z: np.clip(z, -1, 1), lambda z: _ball_relu(z + 1) - _ball_relu(z - 1) - 1, (-1.0, 1.0)),
    "hard_sigmoid": (
        lambda z: np.clip(z + 3, 0, 6) / 6,
        lambda z: (_ball_relu(z + 3) - _ball_relu(z - 3)) / 6,
        (-3.0, 3.0),
    ),
    "tanh": (np.tanh, lambda z: z.tanh(), ()),
    "sigmoid": (special.expit, lambda z: 1 / (1 + (-z).exp()), ()),
    "erf": (special.erf, lambda z: z.erf(), ()),
    "normal_cdf": (special.ndtr, lambda z: (-z / arb(2).sqrt()).erfc() / 2, ()),
    "arctan": (np.arctan, lambda z: z.atan(), ()),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: z / (1 + abs(z)), (0.0,)),
    "silu": (lambda z: z * special.expit(z), lambda z: z / (1 + (-z).exp()), ()),
    "quick_gelu": (lambda z: z * special.expit(1.702 * z), lambda z: z / (1 + (arb("-1.702") * z).exp()), ()),
    "gelu": (lambda z: z * special.ndtr(z), lambda z: z * (-z / arb(2).sqrt()).erfc() / 2, ()),
    "gelu_tanh": (
        lambda z: z * special.expit(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)),
        lambda z: z * (1 + ((2 / arb.pi()).sqrt() * (z + arb("0.044715") * z * z * z)).tanh()) / 2,
        (),
    ),
    "softplus": (lambda z: np.logaddexp(0, z), lambda z: _ball_relu(z) + (-abs(z)).exp().log1p(), ()),
    "mish": (
        lambda z: z * np.tanh(np.logaddexp(0, z)),
        lambda z: z * (_ball_relu(z) + (-abs(z)).exp().log1p()).tanh(),
        (),
    ),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: _ball_elu(z, arb(1)), (0.0,)),
    "selu": (
        lambda z: _SELU[1] * np.where(z > 0, z, _SELU[0] * np.expm1(np.minimum(z, 0))),
        lambda z: arb("1.0507009873554804934193349852946") * _ball_elu(z, arb("1.6732632423543772848170429916717")),
        (0.0,),
    ),
    "celu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: _ball_elu(z, arb(1)), (0.0,)),
    "sin": (np.sin, lambda z: z.sin(), ()),
    "cos": (np.cos, lambda z: z.cos(), ()),
    "exp": (np.exp, lambda z: z.exp(), ()),
    "linear": (lambda z: z, lambda z: z, ()),
    "quadratic": (lambda z: z**2, lambda z: z * z, ()),
    "cubic": (lambda z: z**3, lambda z: z * z * z, ()),
    "hermite(3)": (lambda z: z**3 - 3 * z, lambda z: z * z * z - 3 * z, ()),
    "hermite(4)": (lambda z: z**4 - 6 * z**2 + 3, lambda z: z * z * z * z - 6 * z * z + 3, ()),
}
GATES = ("relu", "gelu", "silu", "sigmoid", "linear", "tanh", "leaky_relu")
STEEP = ("exp", "cubic", "hermite(3)", "hermite(4)", "quadratic", "relu2")


# --- truths -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """f_A − f_B as a list of (network, sign)."""

    parts: tuple[tuple[Network, float], ...]

    @staticmethod
    def of(a: Network, b: Network | None = None) -> Signed:
        return Signed(((a, 1.0),) if b is None else ((a, 1.0), (b, -1.0)))


def empirical_truth(h: Signed, x: Array) -> float:
    """Root mean square over the rows, in balls."""
    before, ctx.prec = ctx.prec, _BITS
    try:
        total = arb(0)
        for row in x:
            values = [arb(0)] * h.parts[0][0].m
            for f, sign in h.parts:
                own = _at(f, [arb(float(v)) for v in row])
                values = [v + arb(sign) * u for v, u in zip(values, own, strict=True)]
            total += sum((v * v for v in values), arb(0))
        return math.sqrt(max(float((total / x.shape[0]).mid()), 0.0))
    finally:
        ctx.prec = before


def _dot(w: Array, x: list[arb]) -> arb:
    return sum((arb(float(u)) * v for u, v in zip(w, x, strict=True)), arb(0))


def _at(f: Network, x: list[arb]) -> list[arb]:
    ball = SIGMA[f.activation.name][1]
    out = [_dot(f.affine[o], x) + arb(float(f.offset[o])) for o in range(f.m)]
    if f.quadratic is not None:
        out = [
            v + sum((_dot(row, x) * u for row, u in zip(f.quadratic[o], x, strict=True)), arb(0))
            for o, v in enumerate(out)
        ]
    for i in range(f.width):
        z = _dot(f.inner[i], x) + arb(float(f.bias[i]))
        if f.gate is not None and f.gate_bias is not None:
            value = ball(_dot(f.gate[i], x) + arb(float(f.gate_bias[i]))) * z
        else:
            value = ball(z)
        out = [v + arb(float(f.outer[i, o])) * arb(f.scale) * value for o, v in enumerate(out)]
    return out


class NotParallel(Exception):
    """Some w is no multiple of one basis row."""


@dataclass(frozen=True)
class Axes:
    """The law in the basis h_j: ⟨h_j, x⟩ ~ N(mean_j, sd_j²), independent."""

    basis: Array
    mean: Array
    sd: Array

    @property
    def law(self) -> Gaussian:
        d = self.basis.shape[0]
        if not self.mean.any() and np.array_equal(self.sd, np.full(d, math.sqrt(d))):
            return Gaussian.standard(d)
        # x = Σ_j h_j y_j / d
        return Gaussian(self.mean @ self.basis / d, (self.basis / d).T * self.sd)

    def index(self, w: Array) -> tuple[int, float]:
        """(j, t) with w = t·h_j exactly."""
        t = float(abs(w[0]))
        if t == 0.0 and not w.any():
            return 0, 0.0
        signs = np.sign(w)
        if not np.array_equal(np.abs(w), np.full(w.size, t)):
            raise NotParallel
        for j, row in enumerate(self.basis):
            if np.array_equal(signs, row) or np.array_equal(signs, -row):
                return j, t * float(signs[0] * row[0])
        raise NotParallel


@dataclass(frozen=True)
class _Ridge:
    """One direction's part of h: Σ α σ(t y + b) [· (v y + e)] + slope·y + square·y²."""

    terms: list[tuple[str, Array, float, float, float | None, float]]
    slope: list[arb]
    square: list[arb]


def gaussian_truth(h: Signed, axes: Axes) -> float:
    """‖h‖ in L²(law); float64 first, balls when less than 1e-7 of the mass is left."""
    before, ctx.prec = ctx.prec, _BITS
    try:
        ridges, constant = _ridges(h, axes)
        mass = sum(float(np.linalg.norm(a)) * (1 + abs(t) * 3 + abs(b)) for r in ridges for _, a, t, b, _, _ in r.terms)
        for exact in (False, True):
            variance, means = arb(0), list(constant)
            for j, ridge in enumerate(ridges):
                first, spread = _moments(ridge, float(axes.mean[j]), float(axes.sd[j]), exact)
                means = [u + v for u, v in zip(means, first, strict=True)]
                variance += sum(spread, arb(0))
            total = variance + sum((v * v for v in means), arb(0))
            found = math.sqrt(max(float(total.mid()), 0.0))
            if found > 1e-6 * mass and not exact:
                return found
        return found
    finally:
        ctx.prec = before


def _ridges(h: Signed, axes: Axes) -> tuple[list[_Ridge], list[arb]]:
    m, d = h.parts[0][0].m, axes.basis.shape[0]
    ridges = [_Ridge([], [arb(0)] * m, [arb(0)] * m) for _ in range(d)]
    constant = [arb(0)] * m
    for f, sign in h.parts:
        name = f.activation.name
        for i in np.flatnonzero(f.outer.any(axis=1)):
            j, t = axes.index(f.inner[i])
            # scale is a power of two in these cases, so alpha is exact
            alpha = sign * f.alpha[i]
            if f.gate is not None and f.gate_bias is not None:
                k, s = axes.index(f.gate[i])
                if t and s and j != k:
                    raise NotParallel
                at = k if s else j
                ridges[at].terms.append((name, alpha, s, float(f.gate_bias[i]), t, float(f.bias[i])))
            else:
                ridges[j].terms.append((name, alpha, t, float(f.bias[i]), None, 0.0))
        for o in range(m):
            constant[o] += arb(sign) * arb(float(f.offset[o]))
            for j, row in enumerate(axes.basis):
                along = sum((arb(float(a)) * arb(float(u)) for a, u in zip(f.affine[o], row, strict=True)), arb(0)) / d
                ridges[j].slope[o] += arb(sign) * along
                if f.quadratic is not None:
                    form = sum(
                        (
                            arb(float(q)) * arb(float(u * v))
                            for u, r in zip(row, f.quadratic[o], strict=True)
                            for v, q in zip(row, r, strict=True)
                        ),
                        arb(0),
                    )
                    ridges[j].square[o] += arb(sign) * form / d**2
    return ridges, constant


_RULE = np.polynomial.legendre.leggauss(_POINTS)


def _moments(ridge: _Ridge, mean: float, sd: float, exact: bool) -> tuple[list[arb], list[arb]]:
    """E h_j and Var h_j per output, y ~ N(mean, sd²)."""
    m = len(ridge.slope)
    if sd == 0.0:
        value = [v[0] for v in _values(ridge, [arb(mean)], m)]
        return value, [arb(0)] * m
    cuts: list[arb] = [arb(float(g)) for g in np.arange(-14.0, 14.5, 1.0)]
    for name, _, t, b, _, _ in ridge.terms:
        if t == 0:
            continue
        kinks = SIGMA[name][2]
        for z in kinks or (0.0,):
            g = ((arb(z) - arb(b)) / arb(t) - arb(mean)) / arb(sd)
            cuts.append(g.mid())
            if not kinks or name in ("softsign", "elu", "selu", "celu"):
                steep = abs(t) * sd
                cuts += [
                    (g + arb(s * 2.0**e / steep)).mid() for e in range(-1, 5) for s in (-1, 1) if 2.0**e / steep < 28
                ]
    cuts = sorted((g for g in cuts if abs(g) <= 14), key=lambda g: g)
    if not exact:
        ends = np.array([float(g) for g in cuts])
        half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
        g = (middle[:, None] + half[:, None] * _RULE[0]).ravel()
        weight = (half[:, None] * _RULE[1]).ravel() * np.exp(-0.5 * g * g) / math.sqrt(2 * math.pi)
        value = _floats(ridge, mean + sd * g, m)
        first = weight @ value
        return [arb(float(v)) for v in first], [arb(float(v)) for v in weight @ (value - first) ** 2]
    nodes = [arb.legendre_p_root(_POINTS, k, weight=True) for k in range(_POINTS)]
    first, second, whole = [arb(0)] * m, [arb(0)] * m, arb(0)
    root = (2 * arb.pi()).sqrt()
    for low, high in pairwise(cuts):
        if not high > low:
            continue
        half, middle = (high - low) / 2, (high + low) / 2
        points = [(middle + half * node).mid() for node, _ in nodes]
        table = _values(ridge, [arb(mean) + arb(sd) * g for g in points], m)
        for k, (g, (_, weight)) in enumerate(zip(points, nodes, strict=True)):
            mass = half * weight * (-g * g / 2).exp() / root
            whole += mass
            for o in range(m):
                first[o] += mass * table[o][k]
                second[o] += mass * table[o][k] * table[o][k]
    # the rule's weights sum to 1 to 1e-23 only; so constants that cancel against the offset cancel here
    first, second = [v / whole for v in first], [v / whole for v in second]
    return [v.mid() for v in first], [(v - u * u).mid() for u, v in zip(first, second, strict=True)]


def _floats(ridge: _Ridge, y: Array, m: int) -> Array:
    out = np.stack([float(ridge.slope[o]) * y + float(ridge.square[o]) * y * y for o in range(m)], axis=1)
    for name, alpha, t, b, v, e in ridge.terms:
        value = SIGMA[name][0](t * y + b)
        out += (value if v is None else value * (v * y + e))[:, None] * alpha
    return out


def _values(ridge: _Ridge, points: list[arb], m: int) -> list[list[arb]]:
    out = [[ridge.slope[o] * y + ridge.square[o] * y * y for y in points] for o in range(m)]
    for name, alpha, t, b, v, e in ridge.terms:
        ball = SIGMA[name][1]
        weights = [arb(float(a)) for a in alpha]
        for k, y in enumerate(points):
            value = ball((arb(t) * y + arb(b)).mid())
            if v is not None:
                value = value * (arb(v) * y + arb(e))
            for o in range(m):
                out[o][k] += weights[o] * value
    return out


# --- pairs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two networks, where to compare them, and what is known: ‖f_A − f_B‖ and ‖f_A‖ to :data:`RELATIVE`."""

    a: Network
    b: Network
    law: Gaussian | Empirical
    truth: float
    size: float
    options: dict[str, Any]
    label: str

    @property
    def eps(self) -> float:
        """The true threshold."""
        return self.options["eps"] if "eps" in self.options else self.options["rel_eps"] * self.size

    def outside(self, lower: float, upper: float) -> bool:
        """Whether [lower, upper] misses the truth."""
        return lower > self.truth * (1 + RELATIVE) + FLOOR or upper < self.truth * (1 - RELATIVE) - FLOOR

    def wrong(self, verdict: str) -> bool:
        """Whether the verdict is false."""
        if verdict == "equivalent":
            return self.truth * (1 - RELATIVE) > self.eps * (1 + RELATIVE)
        return verdict == "distinct" and self.truth * (1 + RELATIVE) < self.eps * (1 - RELATIVE)

    @property
    def clear(self) -> bool:
        """Whether truth and ε differ by more than ten times."""
        return not 0.1 * self.eps <= self.truth <= 10 * self.eps


def random_pair(rng: np.random.Generator, activation: str | None = None) -> Pair:
    """A pair of a random kind; see :func:`_copy` for what B is."""
    gated = activation is None and rng.random() < 0.1
    name = activation or str(rng.choice(GATES if gated else list(SIGMA)))
    if rng.random() < 0.25:
        return _dense(rng, name, gated)
    try:
        return _ridged(rng, name, gated)
    except NotParallel:  # the group element mixed directions
        return _dense(rng, name, gated)


def _ridged(rng: np.random.Generator, name: str, gated: bool) -> Pair:
    d = 1 if name in ("linear", "quadratic") else int(rng.choice([1, 2, 4]))
    m = int(rng.choice([1, 1, 2, 3]))
    basis = linalg.hadamard(d).astype(float)
    plain = rng.random() < 0.5
    mean = np.zeros(d) if plain else rng.normal(0.0, 0.5, d)
    sd = np.full(d, math.sqrt(d)) if plain else rng.uniform(0.3, 1.5, d) * math.sqrt(d)
    if not plain and d > 1 and rng.random() < 0.4:
        sd[rng.integers(d)] = 0.0
    n = int(rng.integers(1, 6))
    row = rng.integers(0, d, n)
    length = rng.uniform(0.2, 1.0 if name in STEEP else 2.5, n) * rng.choice([-1.0, 1.0], n) / math.sqrt(d)
    inner = length[:, None] * basis[row]
    bias = rng.normal(0.0, 0.7, n) * (rng.random() < 0.8)
    gate = None
    if gated:
        gate = (rng.uniform(0.2, 2.0, n) * rng.choice([-1.0, 1.0], n) / math.sqrt(d))[:, None] * basis[row]
    a = Network(
        rng.standard_normal((n, m)) * 10.0 ** (rng.uniform(-2, 2) * (rng.random() < 0.2)),
        inner,
        bias,
        name,
        affine=_small(rng) * rng.standard_normal((m, d)),
        offset=_small(rng) * rng.standard_normal(m),
        gate=gate,
        gate_bias=None if gate is None else rng.normal(0.0, 0.5, n),
    )
    axes = Axes(basis, mean, sd)
    b, label = _copy(a, rng)
    law = axes.law
    # the law's own rounding is part of the question: read the axes back from it
    axes = Axes(basis, *_read(axes, law))
    return _finished(rng, a, b, law, gaussian_truth(Signed.of(a, b), axes), gaussian_truth(Signed.of(a), axes), label)


def _read(axes: Axes, law: Gaussian) -> tuple[Array, Array]:
    if law.name == "gaussian":
        return axes.mean, axes.sd
    return axes.basis @ law.mean, np.linalg.norm(axes.basis @ law.root, axis=1)


def _small(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.3]))


def _dense(rng: np.random.Generator, name: str, gated: bool) -> Pair:
    d, m, n, rows = int(rng.integers(1, 6)), int(rng.choice([1, 3])), int(rng.integers(1, 6)), int(rng.integers(3, 9))
    size = 0.6 if name in STEEP else 1.2
    a = Network(
        rng.standard_normal((n, m)),
        size * rng.standard_normal((n, d)),
        rng.normal(0.0, 0.5, n),
        name,
        affine=_small(rng) * rng.standard_normal((m, d)),
        offset=_small(rng) * rng.standard_normal(m),
        gate=rng.standard_normal((n, d)) if gated else None,
    )
    x = rng.standard_normal((rows, d))
    b, label = _copy(a, rng, dense=True)
    truth, own = empirical_truth(Signed.of(a, b), x), empirical_truth(Signed.of(a), x)
    return _finished(rng, a, b, Empirical.of(x, "empirical"), truth, own, f"empirical {label}")


def _finished(
    rng: np.random.Generator, a: Network, b: Network, law: Gaussian | Empirical, truth: float, own: float, label: str
) -> Pair:
    kind = rng.random()
    if kind < 0.25 and truth > 1e-25:  # on the threshold
        off = 10.0 ** rng.uniform(-12, -1) * rng.choice([-1.0, 1.0])
        options: dict[str, Any] = {"eps": truth * (1 + off)}
        label += " on the threshold"
    elif kind < 0.6:
        options = {"eps": max(truth, 1e-15 * own, 1e-300) * 10.0 ** rng.uniform(-4, 4)}
    elif kind < 0.8:
        options = {"eps": max(own, 1e-300) * 10.0 ** rng.uniform(-11, 0)}
    else:
        options = {"rel_eps": float(10.0 ** rng.uniform(-10, 0))}
    return Pair(a, b, law, truth, own, options, f"{a.activation.name} {label}")


def _copy(a: Network, rng: np.random.Generator, dense: bool = False) -> tuple[Network, str]:
    """A group element of A, then perhaps a perturbation at 10^[−14, −1], a near-equality, or another activation."""
    b = disguise(a, rng, width=a.width + int(rng.integers(0, 6)), scale=1.0)
    label = "copy"
    if rng.random() < 0.25 and a.gate is None:
        b, what = recast(b)
        label += what
    if rng.random() < 0.15:
        b = _rounded(b, rng)
        label += " rounded"
    kind = rng.random()
    size = 10.0 ** rng.uniform(-14, -1)
    if kind < 0.3:
        return b, label
    if kind < 0.6:  # every number
        noise = [1 + size * rng.standard_normal(b.width) for _ in range(3)]
        inner = b.inner * (1 + size * rng.standard_normal(b.inner.shape) if dense else noise[0][:, None])
        return b.with_(
            outer=b.outer * noise[1][:, None], inner=inner, bias=b.bias * noise[2]
        ), f"{label} noise {size:.0e}"
    i = int(rng.integers(b.width))
    if kind < 0.8:  # one neuron
        outer = b.outer.copy()
        outer[i] *= 1 + size
        return b.with_(outer=outer), f"{label} one coefficient {size:.0e}"
    if kind < 0.9:  # a near-dipole of its own
        outer, inner = np.concatenate([b.outer, [b.outer[i], -b.outer[i]]]), np.concatenate([b.inner, b.inner[[i, i]]])
        inner[-1] *= 1 + size
        changes: dict[str, Any] = {"outer": outer, "inner": inner, "bias": np.concatenate([b.bias, b.bias[[i, i]]])}
        if b.gate is not None and b.gate_bias is not None:
            changes |= {
                "gate": np.concatenate([b.gate, b.gate[[i, i]]]),
                "gate_bias": np.concatenate([b.gate_bias, b.gate_bias[[i, i]]]),
            }
        return b.with_(**changes), f"{label} dipole {size:.0e}"
    return b.with_(offset=b.offset + size), f"{label} offset {size:.0e}"


def _rounded(b: Network, rng: np.random.Generator) -> Network:
    kind = np.float16 if rng.random() < 0.5 else np.float32
    gate = {} if b.gate is None else {"gate": b.gate.astype(kind)}
    return b.with_(outer=b.outer.astype(kind), inner=b.inner.astype(kind), bias=b.bias.astype(kind), **gate)


def recast(f: Network) -> tuple[Network, str]:
    """The same function, to rounding, with a related activation; unchanged where there is none."""
    name = f.activation.name

    def to(target: str, coefficient: float, scale: float, p0: float = 0.0, p1: float = 0.0) -> tuple[Network, str]:
        """σ(z) = coefficient·target(scale·z) + p₀ + p₁ z."""
        return f.with_(
            outer=coefficient * f.outer,
            inner=scale * f.inner,
            bias=scale * f.bias,
            activation=target,
            affine=f.affine + p1 * f.alpha.T @ f.inner,
            offset=f.offset + f.alpha.T @ (p1 * f.bias + p0),
        ), f" as {target}"

    half = math.sqrt(0.5)
    if name == "sigmoid":
        return to("tanh", 0.5, 0.5, 0.5)
    if name == "tanh":
        return to("sigmoid", 2.0, 2.0, -1.0)
    if name == "erf":
        return to("normal_cdf", 2.0, math.sqrt(2), -1.0)
    if name == "normal_cdf":
        return to("erf", 0.5, half, 0.5)
    if name == "silu":
        return to("quick_gelu", 1.702, 1 / 1.702)
    if name == "quick_gelu":
        return to("silu", 1 / 1.702, 1.702)
    if name == "relu":
        return to("abs", 0.5, 1.0, 0.0, 0.5)
    if name == "abs":
        return to("relu", 2.0, 1.0, 0.0, -1.0)
    if name == "leaky_relu(0.3)":
        return to("relu", 0.7, 1.0, 0.0, 0.3)
    if name == "leaky_relu":
        return to("relu", 0.99, 1.0, 0.0, 0.01)
    if name == "celu":
        return to("elu", 1.0, 1.0)
    if name == "hardtanh":  # hard_sigmoid(3z) = (hardtanh(z) + 1)/2
        return to("hard_sigmoid", 2.0, 3.0, -1.0)
    if name == "hard_sigmoid":
        return to("hardtanh", 0.5, 1 / 3, 0.5)
    if name == "hermite(3)":
        return to("cubic", 1.0, 1.0, 0.0, -3.0)
    if name == "quadratic":
        g = f.with_(
            activation="relu2",
            outer=np.concatenate([f.outer, f.outer]),
            inner=np.concatenate([f.inner, -f.inner]),
            bias=np.concatenate([f.bias, -f.bias]),
        )
        return g, " as relu2"
    if name == "relu6":
        g = f.with_(
            activation="relu",
            outer=np.concatenate([f.outer, -f.outer]),
            inner=np.concatenate([f.inner, f.inner]),
            bias=np.concatenate([f.bias, f.bias - 6.0]),
        )
        return g, " as relu"
    return f, ""
