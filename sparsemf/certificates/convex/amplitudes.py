"""The amplitudes for fixed positions: min ½ tr(αᵀKα) − tr(Fᵀα) + λ Σ‖α_i‖₂, a group lasso in the Gram matrix.

One output: an active-set method (the lasso).  Several: block coordinate descent (exact in each block: soft threshold of
the norm) and Newton's method on the support, where the optimality system Kα + λα/‖α‖ = F is smooth.  An independent
check with CLARABEL: :func:`refit_by_cone_program`.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SWEEPS = 150
_NEWTON = 12


def objective(gram: Array, moments: Array, lam: float, alpha: Array) -> float:
    """½ tr(αᵀKα) − tr(Fᵀα) + λ Σ‖α_i‖."""
    return float(
        0.5 * np.sum(alpha * (gram @ alpha)) - np.sum(moments * alpha) + lam * np.sum(np.linalg.norm(alpha, axis=1))
    )


def violation(gram: Array, moments: Array, lam: float, alpha: Array) -> float:
    """max_i of ‖(F − Kα)_i − λu_i‖ on the support and of (‖(F − Kα)_i‖ − λ)₊ off it."""
    pull = moments - gram @ alpha
    size = np.linalg.norm(alpha, axis=1, keepdims=True)
    unit = np.divide(alpha, size, out=np.zeros_like(alpha), where=size > 0)
    on = np.linalg.norm(pull - lam * unit, axis=1)
    off = np.maximum(np.linalg.norm(pull, axis=1) - lam, 0.0)
    return float(np.max(np.where(size[:, 0] > 0, on, off), initial=0.0))


def refit(gram: Array, moments: Array, lam: float, start: Array | None = None) -> Array:
    """α (S, m).  One output: exact to rounding (unless K is singular on the support); several: to the descent's
    accuracy, polished by Newton's method."""
    alpha = np.zeros_like(moments) if start is None else np.array(start)
    if moments.shape[1] == 1:
        return _active_set(gram, moments[:, 0], lam, alpha[:, 0])[:, None]
    goal = 1e-13 * max(float(np.max(np.linalg.norm(moments, axis=1), initial=0.0)), 1e-300)
    for _ in range(3):
        polished = _newton(gram, moments, lam, alpha)
        if polished is not None and violation(gram, moments, lam, polished) <= violation(gram, moments, lam, alpha):
            alpha = polished
        if violation(gram, moments, lam, alpha) <= 100 * goal:
            break
        alpha = _descend(gram, moments, lam, alpha, _SWEEPS, goal)
    return alpha


def _active_set(gram: Array, moments: Array, lam: float, alpha: Array) -> Array:
    """The lasso for one output: exact minimisation on a signed support, which shrinks where a sign would change and
    grows where |F − Kα| > λ."""
    alpha = alpha.copy()
    sign = np.sign(alpha)
    limit = 1e-12 * max(float(np.max(np.abs(moments), initial=0.0)), lam)
    for _ in range(20 * alpha.size + 20):
        on = np.flatnonzero(sign)
        if on.size:
            best = np.linalg.lstsq(gram[np.ix_(on, on)], moments[on] - lam * sign[on], rcond=1e-13)[0]
            wrong = best * sign[on] <= 0
            if wrong.any():
                # as far as the first zero; the support shrinks
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.where(wrong, alpha[on] / (alpha[on] - best), np.inf)
                step = float(np.clip(np.nanmin(ratio), 0.0, 1.0))
                alpha[on] += step * (best - alpha[on])
                gone = on[wrong & (ratio <= step)] if (wrong & (ratio <= step)).any() else on[wrong]
                alpha[gone] = 0.0
                sign[gone] = 0.0
                continue
            alpha[on] = best
        pull = moments - gram @ alpha
        off = np.where(sign == 0, np.abs(pull) - lam, -np.inf)
        worst = int(np.argmax(off)) if off.size else 0
        if not off.size or off[worst] <= limit:
            break
        sign[worst] = np.sign(pull[worst])
    return alpha


def _descend(gram: Array, moments: Array, lam: float, alpha: Array, sweeps: int, goal: float) -> Array:
    alpha = alpha.copy()
    pull = moments - gram @ alpha
    diagonal = np.diag(gram)
    for _ in range(sweeps):
        moved = 0.0
        for i in range(alpha.shape[0]):
            if diagonal[i] <= 0:
                alpha[i] = 0.0
                continue
            wish = pull[i] + diagonal[i] * alpha[i]
            size = float(np.linalg.norm(wish))
            new = wish * (max(1.0 - lam / size, 0.0) / diagonal[i]) if size > 0 else np.zeros_like(wish)
            step = new - alpha[i]
            if step.any():
                pull -= np.outer(gram[:, i], step)
                alpha[i] = new
                moved = max(moved, float(np.linalg.norm(step)) * diagonal[i])
        if moved <= goal:
            break
    return alpha


def _newton(gram: Array, moments: Array, lam: float, alpha: Array) -> Array | None:
    """Newton on Kα + λα/‖α‖ = F on the support of ``alpha``; None when an atom would change its direction."""
    out = alpha.copy()
    for _ in range(_NEWTON):
        size = np.linalg.norm(out, axis=1)
        on = np.flatnonzero(size > 0)
        if not on.size:
            return out
        m, s = out.shape[1], on.size
        unit = out[on] / size[on, None]
        rest = moments[on] - gram[np.ix_(on, on)] @ out[on] - lam * unit
        form = np.kron(gram[np.ix_(on, on)], np.eye(m))
        for i in range(s):
            block = slice(i * m, (i + 1) * m)
            form[block, block] += lam / size[on[i]] * (np.eye(m) - np.outer(unit[i], unit[i]))
        step = np.linalg.lstsq(form, rest.reshape(-1), rcond=1e-14)[0].reshape(s, m)
        new = out[on] + step
        if m == 1 and np.any(new * out[on] <= 0):
            return None
        out[on] = new
        if np.linalg.norm(step) <= 1e-15 * np.linalg.norm(new):
            break
    return out


def refit_by_cone_program(gram: Array, moments: Array, lam: float) -> Array:
    """The same optimum by cvxpy with CLARABEL; raises :class:`RuntimeError` when it fails."""
    import cvxpy as cp

    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    alpha = cp.Variable(moments.shape)
    cost = 0.5 * cp.sum_squares(root @ alpha) - cp.sum(cp.multiply(moments, alpha))
    problem = cp.Problem(cp.Minimize(cost + lam * cp.sum(cp.norm(alpha, 2, axis=1))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        except cp.SolverError as error:
            raise RuntimeError(f"CLARABEL failed on the amplitudes: {error}") from error
    if alpha.value is None:
        raise RuntimeError(f"CLARABEL gave no amplitudes (status {problem.status})")
    return np.asarray(alpha.value)
