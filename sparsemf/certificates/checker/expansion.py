"""The difference of two networks as one sum over core neurons, and its grouping.

f_A − f_B = Σ_i α_i·core_i(⟨w_i, x⟩ + b_i) + A x + c, neurons in the order: A before B, term by term of the
activation's image, neuron by neuron.  In float64 the constants of an image round; ``point_error`` bounds
‖(w_i, b_i) − exact‖ and ``alpha_error`` ‖α_i − exact‖.  In balls both are 0.  Neurons with w = 0 are constants: they
are paid into c, and keep their place with α = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import UNDERFLOW, Arithmetic, Rows, Undefined
from sparsemf.certificates.checker.catalogue import CORES, ORDER, Core, Image, Term, image
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Expanded:
    """See the module's docstring; ``core`` indexes :data:`catalogue.ORDER`."""

    alpha: Rows
    w: Rows
    b: Rows
    core: Integers
    affine: Rows
    offset: Rows
    point_error: Array
    alpha_error: Array
    affine_error: float
    quadratic: Rows | None = None

    def take(self, rows: NDArray[np.int64]) -> Expanded:
        """Some of the neurons."""
        return Expanded(
            self.alpha[rows],
            self.w[rows],
            self.b[rows],
            self.core[rows],
            self.affine,
            self.offset,
            self.point_error[rows],
            self.alpha_error[rows],
            self.affine_error,
            self.quadratic,
        )

    @cached_property
    def lengths(self) -> Array:
        """Upper bounds of ‖w_i‖."""
        return Arithmetic(0 if self.w.dtype == np.float64 else 64).norms(self.w)

    @cached_property
    def weights(self) -> Array:
        """Upper bounds of the exact ‖α_i‖."""
        return Arithmetic(0 if self.alpha.dtype == np.float64 else 64).norms(self.alpha) + self.alpha_error

    @cached_property
    def moments(self) -> dict[str, tuple[Array, Array]]:
        """Float64: (Σ α_i w_iᵀ (m, d), Σ α_i b_i (m,)) of each core, block by block."""
        found = {core.name: (np.zeros(self.affine.shape), np.zeros(self.offset.shape)) for core, _ in self.cores()}
        for core, rows in self.cores():
            for k in np.split(rows, range(_BLOCK, rows.size, _BLOCK)):
                for total, values in zip(found[core.name], (self.w, self.b), strict=True):
                    total += self.alpha[k].T @ values[k]
        return found

    def lost(self, rows: Integers) -> float:
        """What is lost in their ``moments``, in the norm of a linear function's coefficients: with B blocks of at most
        k neurons, each summed by a matrix product (γ_k) and their sums added (γ_B), (k + B + 2)u·Σ‖α_i‖(‖w_i‖ + |b_i|),
        and what α_i, w_i, b_i are known to."""
        steps, weight = min(rows.size, _BLOCK) + rows.size // _BLOCK + 4, self.weights[rows]
        length = self.lengths[rows] + np.abs(self.b[rows]) + self.point_error[rows]
        known = self.alpha_error[rows] @ length + weight @ self.point_error[rows]
        return float(steps * Arithmetic(0).unit * (weight @ length) + known) * (1 + 1e-12)

    def cores(self) -> list[tuple[Core, NDArray[np.int64]]]:
        """Each core that occurs, with its neurons."""
        return [(CORES[ORDER[k]], np.flatnonzero(self.core == k)) for k in np.unique(self.core)]


def terms_of(activation: str) -> int:
    """The number of core neurons that a neuron expands to."""
    return len(image(activation).terms)


def expanded(arith: Arithmetic, *signed: tuple[Raw, float], constants: bool = True) -> Expanded:
    """Σ sign·f over the given (network, sign); all of one d and m.  ``constants``: pay those neurons into c."""
    alphas, ws, bs, cores, point_errors, alpha_errors = [], [], [], [], [], []
    first = signed[0][0]
    m, d = first.affine.shape
    affine, offset, affine_error = arith.zeros((m, d)), arith.zeros((m,)), 0.0
    quadratic: Rows | None = None
    for network, sign in signed:
        form = image(network.activation)
        alpha, w, b = (coefficients(arith, network, sign), arith.array(network.w), arith.array(network.b))
        here, there, error = _affine_of(arith, form, network, alpha, w, b, sign)
        affine, offset = affine + here, offset + there
        if network.quadratic is not None:
            own = arith.array(sign * network.quadratic)
            quadratic = own if quadratic is None else quadratic + own
        # the two additions above round, too
        affine_error += error + 2 * arith.unit * (arith.norm(affine) + arith.norm(offset))
        lost = arith.lost_below(network.outer) if not arith.exact else 0.0
        if not arith.exact and np.min(np.abs(alpha[network.outer != 0]), initial=1.0) < 1e-290:
            raise Undefined("a coefficient underflows")  # what e^b or a constant multiplies afterwards is not known
        for position, term in enumerate(form.terms):
            a, v, c, point_error, alpha_error = _term(arith, form, position, term, alpha, w, b)
            alphas.append(a)
            ws.append(v)
            bs.append(c)
            cores.append(np.full(network.b.size, ORDER.index(term.core), dtype=np.int64))
            point_errors.append(point_error)
            # scale·outer rounds unless the scale is a power of two
            rounds = math.frexp(network.scale)[0] not in (0.5, -0.5)
            alpha_error = alpha_error + (2 * arith.unit * arith.norms(a) if rounds else 0.0)
            alpha_errors.append(alpha_error + (lost if rounds or abs(network.scale) < 1 else 0.0))

    def joined(parts: list[Rows], shape: tuple[int, ...]) -> Rows:
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else arith.zeros(shape)

    h = Expanded(
        joined(alphas, (0, m)),
        joined(ws, (0, d)),
        joined(bs, (0,)),
        np.concatenate(cores) if cores else np.zeros(0, dtype=np.int64),
        affine,
        offset,
        np.concatenate(point_errors) if point_errors else np.zeros(0),
        np.concatenate(alpha_errors) if alpha_errors else np.zeros(0),
        affine_error,
        quadratic,
    )
    return _without_constants(arith, h) if constants else h


def is_exactly(x: Any, value: int) -> bool:
    """Whether x is this number, and not only a ball that contains it."""
    return bool(x == value)


def is_zero(arith: Arithmetic, w: Rows) -> NDArray[np.bool_]:
    """Which rows are exactly 0, shape (n,)."""
    if arith.exact:
        return np.array([all(v == 0 for v in row) for row in w], dtype=bool)
    return np.asarray(np.all(w == 0, axis=1), dtype=bool)


def constant_values(arith: Arithmetic, core: Core, b: Rows, moved: Array) -> tuple[Rows, Array, Array]:
    """σ(b), what is lost by rounding and by b being known to ``moved``, and a bound of |σ|; shape (n,) each."""
    value = np.array([core.ball(v) for v in b] + [0], dtype=object)[:-1] if arith.exact else core.value(b)
    reach = arith.ups(abs(b)) + moved
    top = core.largest(reach)
    return value, core.variation(reach) * moved + 72 * arith.unit * top, top


def _without_constants(arith: Arithmetic, h: Expanded) -> Expanded:
    """Neurons with w = 0 in the offset."""
    rows = np.flatnonzero(is_zero(arith, h.w))
    rows = rows[arith.norms(h.alpha[rows]) > 0]
    if not rows.size:
        return h
    offset, error, alpha, alpha_error = h.offset, h.affine_error, h.alpha.copy(), h.alpha_error.copy()
    for k in np.unique(h.core[rows]):
        own = rows[h.core[rows] == k]
        value, lost, top = constant_values(arith, CORES[ORDER[k]], h.b[own], h.point_error[own])
        offset = offset + np.sum(value[:, None] * h.alpha[own], axis=0)
        weight = arith.norms(h.alpha[own]) + h.alpha_error[own]
        error += float(weight @ (lost + (own.size + 4) * arith.unit * top) + h.alpha_error[own] @ top)
    alpha[rows], alpha_error[rows] = arith.zeros((rows.size, alpha.shape[1])), 0.0
    error += 2 * arith.unit * arith.norm(offset)
    return replace(h, alpha=alpha, offset=offset, alpha_error=alpha_error, affine_error=error * (1 + 1e-12))


def coefficients(arith: Arithmetic, network: Raw, sign: float) -> Rows:
    """sign·scale·outer."""
    if not arith.exact or abs(network.scale) == 1.0:
        return arith.array(sign * network.scale * network.outer)
    return arith.array(network.outer) * arith.array([sign * network.scale])[0]


def _affine_of(
    arith: Arithmetic, form: Image, network: Raw, alpha: Rows, w: Rows, b: Rows, sign: float
) -> tuple[Rows, Rows, float]:
    """sign·(A, c) + Σ α (p₀ + p₁ z), and the norm of what rounds."""
    affine, offset = arith.array(sign * network.affine), arith.array(sign * network.offset)
    constant, linear = form.constant(), form.linear()
    error = 0.0
    n = network.b.size
    if n and not is_exactly(linear, 0):
        p = arith.constant(linear)
        affine, offset = affine + p * (alpha.T @ w), offset + p * (alpha.T @ b)
        weight = arith.norms(alpha) @ (arith.norms(w) + arith.ups(abs(b)))
        error += (n + 4) * arith.unit * abs(float(linear.mid())) * float(weight)
    if n and not is_exactly(constant, 0):
        offset = offset + arith.constant(constant) * np.sum(alpha, axis=0)
        error += (n + 4) * arith.unit * abs(float(constant.mid())) * float(np.sum(arith.norms(alpha)))
    return affine, offset, error + 2 * arith.unit * (arith.norm(affine) + arith.norm(offset))


# is_exactly below, never ``x != 1``: a ball that merely contains 1 is neither equal to it nor different


def _term(
    arith: Arithmetic, form: Image, position: int, term: Term, alpha: Rows, w: Rows, b: Rows
) -> tuple[Rows, Rows, Rows, Array, Array]:
    n = b.shape[0]
    unit = arith.unit
    zero = np.zeros(n)
    if form.frequency is not None or form.translation:
        factor, factor_error = _bias_factor(arith, form, position, b)
        moved = alpha * factor[:, None]
        # e^b may underflow and e^{⟨w, x⟩} be as large: a coefficient that is 0 by rounding keeps an error
        lost = arith.norms(alpha) * factor_error + 2 * unit * arith.norms(moved) + arith.lost_below(alpha)
        return moved, w, arith.zeros((n,)), zero, np.where(factor_error > 0, lost, 0.0)
    coefficient, scale, shift = term.coefficient(), term.scale(), term.shift()
    alpha_error = point_error = zero
    if not is_exactly(coefficient, 1):
        alpha_error = arith.lost_below(alpha)
        alpha = arith.constant(coefficient) * alpha
        alpha_error = alpha_error + 2 * unit * arith.norms(alpha)
    if not is_exactly(scale, 1):
        w, b = arith.constant(scale) * w, arith.constant(scale) * b
        point_error = 2 * unit * (arith.norms(w) + arith.ups(abs(b))) + (0.0 if arith.exact else UNDERFLOW)
    if not is_exactly(shift, 0):
        b = b + arith.constant(shift)
        point_error = point_error + 2 * unit * (arith.ups(abs(b)) + abs(float(shift.mid())))
    return alpha, w, b, point_error, alpha_error


def _bias_factor(arith: Arithmetic, form: Image, position: int, b: Rows) -> tuple[Rows, Array]:
    """What the bias contributes to the coefficient (cos b, ±sin b, or e^b), from balls, and its error: 0 only where
    the factor is exactly −1, 0 or 1."""
    name = "exp" if form.translation or form.frequency is None else form.frequency[position]
    function = {
        "exp": lambda v: v.exp(),
        "cos": lambda v: v.cos(),
        "sin": lambda v: v.sin(),
        "-sin": lambda v: -v.sin(),
    }[name]
    found = [function(v if arith.exact else arb(v)) for v in b]
    if arith.exact:
        return np.array([*found, arb(0)], dtype=object)[:-1], np.zeros(len(found))
    factor = np.array([float(v.mid()) for v in found], dtype=np.float64)
    whole = np.array([any(is_exactly(v, k) for k in (-1, 0, 1)) for v in found], dtype=bool)
    error = np.array([float(v.rad()) for v in found], dtype=np.float64) + arith.unit * np.abs(factor) + UNDERFLOW
    return factor, np.where(whole, 0.0, error)
