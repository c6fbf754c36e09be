"""BLASSO: min over vector measures ν on Θ of ½‖f* − Φν‖²_{L²(ρ)} + λ|ν|_TV, off the grid, with a certified duality gap.

Two solvers behind one entry: cells of the data for piecewise-linear homogeneous σ (:mod:`.polyhedral`), sliding
Frank-Wolfe (Denoyelle, Duval, Peyré & Soubies, Inverse Problems 36 (2020)) for everything else (:mod:`.sliding`).

Optimality: η = Φ*(f* − Φν)/λ has ‖η‖ ≤ 1 on Θ and η(θ_i) = α_i/‖α_i‖ on the support.  Biases belong to θ and are
penalised; without that, minimisers need not be sparse (Boursier & Flammarion, NeurIPS 2023).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.activations import Activation
from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.certificates.convex import polyhedral, sliding
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.gap import duality_gap
from sparsemf.certificates.convex.observation import Atomic, Observation
from sparsemf.certificates.convex.result import BlassoResult, Effort, Status
from sparsemf.certificates.convex.supremum import Supremum
from sparsemf.exceptions import InputError
from sparsemf.measures import Gaussian, Network

Array = NDArray[np.float64]


def blasso_on_data(
    x: ArrayLike,
    y: ArrayLike,
    lam: float,
    activation: str | Activation = "relu",
    *,
    bias: bool = True,
    affine: bool = False,
    radius: float | None = None,
    bias_radius: float | None = None,
    effort: Effort | None = None,
) -> BlassoResult:
    """min (1/2n)‖Y − Σ α_i σ(⟨w_i, X⟩ + b_i)‖²_F + λ Σ‖α_i‖₂ over all finite and infinite dictionaries.

    X (n, d), Y (n,) or (n, m).  ``affine``: a free affine part beside it.  ``radius``, ``bias_radius``: Θ for σ that is
    not homogeneous.  Raises :class:`InputError` for data or limits that do not fit.
    """
    observation = DataObservation.of(x, y, activation, bias, affine, radius, bias_radius)
    return blasso(observation, lam, effort or Effort())


def blasso_on_network(
    target: Network,
    lam: float,
    activation: str | Activation | None = None,
    *,
    bias: bool = True,
    affine: bool = False,
    radius: float | None = None,
    bias_radius: float | None = None,
    effort: Effort | None = None,
    law: Gaussian | None = None,
) -> BlassoResult:
    """min ½‖f* − Φν‖²_{L²(N(0, I))} + λ|ν|_TV for f* = ``target``, a network in whitened coordinates.

    With ``law`` = N(m, Σ) the target is in input coordinates and is brought to g ~ N(0, I), x = m + root·g, first;
    atoms, Θ and the result's network are in the coordinates g then.  ``activation`` of the atoms defaults to the
    target's.  Raises :class:`InputError` for gated targets, quadratic parts
    and limits that do not fit.
    """
    from sparsemf.certificates.convex.population import PopulationObservation

    observation = PopulationObservation.of(target, activation, bias, affine, radius, bias_radius, law)
    return blasso(observation, lam, effort or Effort())


def blasso(observation: Observation, lam: float, effort: Effort) -> BlassoResult:
    """The program for any target; raises :class:`InputError` unless λ > 0."""
    if not (np.isfinite(lam) and lam > 0):
        raise InputError(f"lam: expected a positive number, got {lam}")
    if isinstance(observation, DataObservation) and isinstance(observation.activation, PiecewiseLinear):
        measure, supremum, iterations, solver = polyhedral.solve(observation, lam, effort)
    else:
        measure, supremum, iterations, solver = sliding.solve(observation, lam, effort)
    return assemble(observation, lam, measure, supremum, iterations, solver, effort)


def assemble(
    observation: Observation,
    lam: float,
    measure: Atomic,
    supremum: Supremum,
    iterations: int,
    solver: str,
    effort: Effort,
) -> BlassoResult:
    """The result of a measure and of bounds of sup ‖Φ*(f* − Φν)‖."""
    gap = duality_gap(observation, measure, lam, supremum.upper)
    if gap.gap is not None:
        status = Status.OPTIMAL if gap.gap <= max(effort.tolerance, 1e-12) * gap.value else Status.BOUNDED
    elif supremum.lower <= lam * (1 + 10 * effort.tolerance):
        status = Status.ESTIMATE
    else:
        status = Status.LIMIT
    scaled = replace(
        supremum,
        lower=supremum.lower / lam,
        upper=None if supremum.upper is None else supremum.upper / lam * (1 + 1e-15),
        error=supremum.error / lam,
    )
    return BlassoResult(
        status,
        observation,
        lam,
        measure,
        gap.value,
        gap.dual_value,
        gap.gap,
        scaled,
        iterations,
        solver,
        observation.network(measure),
    )
