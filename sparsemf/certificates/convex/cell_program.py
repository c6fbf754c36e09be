"""The exact convex program of two-layer networks with a piecewise-linear σ on n data points (Pilanci & Ergen, ICML
2020).

With patterns D_j = diag(a_j) of the cells K_j = {v : s_ij⟨x_i, v⟩ ≥ 0},

    min (1/2n)‖y − Σ_j D_jX(v_j − w_j)‖² + λ Σ_j (|v_j| + |w_j|)   over v_j, w_j ∈ K_j,

whose optimum over *all* patterns is that over all networks with weight decay (½λ)Σ(α_i² + |w_i|²), and over all
measures. Its dual is max {⟨y, q⟩/n − ½‖q‖²/n : |Σ_i q_i σ(⟨x_i, u⟩)|/n ≤ λ for all |u| ≤ 1}; the residual is rescaled
until it is feasible, with the supremum bounded by branch and bound (:mod:`.cones`).  So the gap holds for the program
over all patterns, whichever patterns were given: a missing pattern shows as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.activations import Activation
from sparsemf.certificates.convex.cells import piecewise, solve_cells
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.observation import Atomic
from sparsemf.certificates.convex.patterns import enumerate_patterns, sample_patterns
from sparsemf.certificates.convex.polyhedral import bounded_sup
from sparsemf.certificates.convex.program import assemble
from sparsemf.certificates.convex.result import BlassoResult, Effort
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]
Signs = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class ReluProgram:
    """``result``: the network, value and gap; ``patterns`` (P, n) used, and whether they are ``all`` of them (to the
    tolerance of the enumeration)."""

    result: BlassoResult
    patterns: Signs
    all: bool


def relu_program(
    x: ArrayLike,
    y: ArrayLike,
    lam: float,
    activation: str | Activation = "relu",
    *,
    bias: bool = True,
    affine: bool = False,
    patterns: Signs | int | None = None,
    effort: Effort | None = None,
    most_variables: int = 4000,
) -> ReluProgram:
    """The program for one output over all patterns (None), given ones (P, n), or ``patterns`` sampled ones.

    Raises :class:`InputError` for several outputs (the program is then not a cone program in the v_j; use
    :func:`.program.blasso_on_data`), for patterns that do not fit and for more than ``most_variables`` variables.
    """
    effort = effort or Effort()
    observation = DataObservation.of(x, y, activation, bias, affine)
    piecewise(observation)
    if observation.m != 1:
        raise InputError(f"relu program: expected one output, got {observation.m}; use blasso_on_data")
    if patterns is None:
        signs = enumerate_patterns(observation.design)
    elif isinstance(patterns, (int, np.integer)):
        signs = sample_patterns(observation.design, int(patterns), np.random.default_rng(effort.seed))
    else:
        signs = np.asarray(patterns, dtype=np.int8)
        if signs.ndim != 2 or signs.shape[1] != observation.n or not np.isin(signs, (-1, 1)).all():
            raise InputError(f"patterns: expected entries ±1 of shape (P, {observation.n}), got {signs.shape}")
    variables = 2 * signs.shape[0] * observation.design.shape[1]
    if variables > most_variables:
        raise InputError(
            f"relu program: expected ≤ {most_variables} variables, got {variables} for {signs.shape[0]} patterns; "
            "give or sample fewer, or use blasso_on_data, which generates them"
        )
    both = np.concatenate([signs, signs])
    outputs = np.concatenate([np.ones((signs.shape[0], 1)), -np.ones((signs.shape[0], 1))])
    found = solve_cells(observation, both, outputs, lam, everything=variables <= 800)
    length = np.linalg.norm(found.v, axis=1)
    kept = length > 1e-8 * max(float(np.max(length, initial=0.0)), 1e-300)
    measure = Atomic(found.v[kept] / length[kept, None], length[kept, None] * outputs[kept])
    supremum = bounded_sup(observation, measure, lam, effort)
    result = assemble(observation, lam, measure, supremum, found.rounds, found.solver, effort)
    return ReluProgram(result, signs, patterns is None)
