"""Values of a sum of core neurons at given points, enclosed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Arithmetic, Rows
from sparsemf.certificates.checker.expansion import Expanded

Array = NDArray[np.float64]

_BLOCK = 1 << 22


def norms_at(arith: Arithmetic, h: Expanded, x: Array) -> tuple[Array, Array]:
    """(lower, upper) of ‖h(x_j)‖ for the rows x_j of x (n, d)."""
    out, error = values_at(arith, h, x)
    upper = arith.norms(out) + error
    lower = np.maximum([arith.floor_norm(v) for v in out] - error, 0.0)
    return np.where(np.isfinite(lower), lower, 0.0), np.where(np.isnan(upper), np.inf, upper)


def values_at(arith: Arithmetic, h: Expanded, x: Array) -> tuple[Rows, Array]:
    """h(x_j) for the rows x_j of x (n, d), and a bound of the error of each (0 for balls, which carry their own).

    Float64: the error of row j is Σ_i ‖α_i‖[S·((d + 3)u + point_error)·(‖w_i‖‖x_j‖ + |b_i|) + 32u·sup|σ|] + (n +
    4)u·mass.
    """
    points = x.shape[0]
    found, errors = arith.zeros((points, h.offset.shape[0])), np.zeros(points)
    # balls carry their own errors
    weight, lengths = (np.zeros(h.core.size),) * 2 if arith.exact else (h.weights, h.lengths)
    shifts = weight if arith.exact else arith.ups(abs(h.b))
    d, n = x.shape[1], h.core.size
    block = max(1, _BLOCK // max(n, 1))
    for start in range(0, points, block):
        rows = slice(start, min(start + block, points))
        part = arith.array(x[rows])
        size = Arithmetic(0).norms(x[rows])  # never 0 for a row that only squares to 0
        out = part @ h.affine.T + h.offset
        # one more addition for each core and for the quadratic part
        error = h.affine_error * (size + 1) + (d + 5 + len(h.cores())) * arith.unit * (
            arith.norm(h.affine) * size + arith.norm(h.offset)
        )
        if h.quadratic is not None:
            for j in range(out.shape[1]):
                out[:, j] = out[:, j] + np.sum((part @ h.quadratic[j]) * part, axis=1)
            error = error + (2 * d + 6) * arith.unit * arith.norm(h.quadratic) * size**2
        mass = np.zeros(size.size)
        for core, own in h.cores():
            z = part @ h.w[own].T + h.b[own]
            bound = (size[:, None] * lengths[own] + shifts[own]) * (1 + 1e-12)
            value = np.frompyfunc(core.ball, 1, 1)(z) if arith.exact and z.size else z if arith.exact else core.value(z)
            out = out + value @ h.alpha[own]
            if not arith.exact:
                moved = (d + 3) * arith.unit * bound + h.point_error[own] * (size[:, None] + 1)
                top = core.largest(bound + moved)
                error = error + (core.variation(bound + moved) * moved + 64 * arith.unit * top) @ weight[own]
                error = error + top @ h.alpha_error[own]
                mass = mass + top @ weight[own]
        found[rows], errors[rows] = out, (error + (n + 8) * arith.unit * mass) * (1 + 1e-12)
    return found, errors


def root_mean_square(arith: Arithmetic, h: Expanded, x: Array) -> tuple[float, float]:
    """(lower, upper) of the root mean square of ‖h‖ over the rows of x."""
    lower, upper = norms_at(arith, h, x)
    grow = 1 + (x.shape[0] + 8) * 2.0**-52
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(lower**2))) / grow, float(np.sqrt(np.mean(upper**2))) * grow + 1e-150
