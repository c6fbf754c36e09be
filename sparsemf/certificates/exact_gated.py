"""S* of gated blocks Σ α_i σ(⟨g_i, x⟩ + c_i)·(⟨v_i, x⟩ + e_i) at ε = 0 in exact arithmetic, with a free quadratic part.

*Claim.*  For the gates σ named below, S* = Σ over the distinct gates of rank M, M = Σ α (v, e)ᵀ (m, d+1), where gates
are distinct modulo the flip and, for relu-type σ, modulo positive scalings.

*Proof.*  Let Σ_g σ(u_g)·ℓ_g be a quadratic polynomial, the u_g distinct gates and ℓ_g affine.  On a generic line the
gates stay distinct and the ℓ_g are polynomials of degree ≤ 1 that are 0 only if ℓ_g is.  Then every ℓ_g = 0:

- tanh, sigmoid, silu, quick_gelu have poles, softplus and arctan branch points, at points of which some belong to one
  gate only; the residue (or the jump) there is a nonzero number times ℓ_g at a point that is not real, where a real
  polynomial of degree ≤ 1 is 0 only if it vanishes;
- erf, normal_cdf, gelu: the third derivative is a Gaussian of the gate's own width and centre times a polynomial whose
  leading coefficient is nonzero unless ℓ_g = 0; the slowest decay cannot be cancelled;
- gelu_tanh: σ(z) − max(z, 0) decays like z·exp(−2κ(z + μz³)); the cubics of distinct gates differ in their first two
  coefficients, so the slowest decay cannot be cancelled;
- relu, leaky_relu, abs: across the hyperplane {u = 0} both sides continue to polynomials that differ by u·ℓ_g times
  a nonzero number;
- elu, selu, celu: as they, on each side of the common hyperplane exponentials of distinct rates with coefficients ℓ_g;
- softsign: both sides of the hyperplane continue to rational functions with poles at −1/t and 1/t, and ℓ_g is 0 at both
  only if it vanishes on the line.

So any network of this function has, gate by gate, the same M, hence at least rank M atoms of that gate (an atom adds a
matrix of rank 1; flips and scalings multiply it by a number), and the singular value decomposition needs no more.  ∎

relu² gates: a flip costs a cubic form, which is not free.  σ″ jumps on the hyperplane, so the net M with flips' signs
gives a lower bound, and the gates of either side apart an upper one.  Other gates: the atoms after merging, no lower
bound.  Linear gates (bilinear): the function is a quadratic polynomial and S* = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact_groups import Groups, equal_rows, lines
from sparsemf.certificates.exact_numbers import exact_matrix, rank_bounds
from sparsemf.measures import Network

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

DECIDED = (
    "tanh", "sigmoid", "arctan", "softsign", "softplus", "silu", "quick_gelu", "gelu", "gelu_tanh", "erf", "normal_cdf",
    "elu", "celu", "selu", "relu", "leaky_relu", "abs",
)  # fmt: skip
_INERTIA = 96


@dataclass(frozen=True)
class GatedCount:
    """``lower`` ≤ S* ≤ ``upper``; ``gates`` distinct ones."""

    lower: int
    upper: int
    gates: int
    reason: str


def gated_count(network: Network) -> GatedCount:
    """S* of a gated network, any quadratic form and affine function being free."""
    activation = network.activation
    name = activation.name.split("(")[0]
    if activation.kind == "matrix":
        return GatedCount(0, 0, 0, "a linear gate makes a quadratic polynomial, and the quadratic part is free")
    gate, shift = network.gate, network.gate_bias
    if gate is None or shift is None:
        raise ValueError("expected a gated network")
    value = np.concatenate([network.inner, network.bias[:, None]], axis=1)
    rows = np.flatnonzero(network.outer.any(axis=1) & value.any(axis=1) & gate.any(axis=1))
    points = np.concatenate([gate[rows], shift[rows, None]], axis=1)
    outer, value = network.outer[rows], value[rows]
    homogeneous = activation.homogeneous is not None and activation.kind == "atoms"
    if name == "relu2":
        groups = lines(points)
        lower = sum(_rank(groups, own, outer, value, 2, 1)[0] for own in groups.members)
        sides = [own[groups.side[own] == side] for own in groups.members for side in (1, -1)]
        upper = sum(_rank(groups, own, outer, value, 2, 0)[1] for own in sides if own.size)
        return GatedCount(lower, upper, len(groups), "a flip of a relu² gate costs a cubic form, which is not free")
    relation = activation.relation
    groups = lines(points) if homogeneous else equal_rows(points, flips=relation is not None)
    degree = 1 if homogeneous else 0
    parity = 1 if relation is not None and relation.sign < 0 else 0
    ranks = [_rank(groups, own, outer, value, degree, parity) for own in groups.members]
    lower, upper = sum(r[0] for r in ranks), sum(r[1] for r in ranks)
    if name not in DECIDED:
        return GatedCount(0, upper, len(groups), f"the independence of {name} gates is not proved here")
    reason = "distinct gates count the rank of their matrix Σ a vᵀ"
    return GatedCount(lower, upper, sum(r[1] > 0 for r in ranks), reason)


def _rank(groups: Groups, members: Integers, outer: Array, value: Array, degree: int, parity: int) -> tuple[int, int]:
    """Bounds of rank Σ sign^parity·|pivot|^degree·α·(v, e)ᵀ over one gate."""
    if members.size == 1:
        return 1, 1
    pivot = groups.pivot[members, None]
    weight = [np.abs(pivot)] * degree + [np.sign(pivot)] * parity
    structure = min(members.size, len(lines(outer[members])), len(lines(value[members])))
    return rank_bounds([([outer[members], *weight], [value[members]])], structure)


def bilinear_width(network: Network) -> tuple[int, int] | None:
    """Bounds of the least number of atoms of one output of a bilinear network when only affine functions are free:
    max(n₊, n₋) of the form F = ½ Σ α (gvᵀ + vgᵀ) + Q, since an atom's form has at most one eigenvalue of each sign.

    The inertia is read off the characteristic polynomial in integers: all roots are real, so Descartes' rule counts.
    None for several outputs, or more than 96 inputs.
    """
    if network.m != 1 or network.gate is None or network.d > _INERTIA or network.scale == 0.0:
        return None
    factors = [
        ([network.gate, network.outer, np.full((network.width, 1), network.scale)], [network.inner]),
        ([network.inner, network.outer, np.full((network.width, 1), network.scale)], [network.gate]),
    ]
    if network.quadratic is not None:
        factors.append(([2 * np.eye(network.d)], [network.quadratic[0]]))
    coefficients = [int(c) for c in exact_matrix(factors).charpoly().coeffs()]
    zero = next(k for k, c in enumerate(coefficients) if c)
    signs = [c > 0 for c in coefficients if c]
    positive = sum(a != b for a, b in pairwise(signs))
    most = max(positive, len(coefficients) - 1 - zero - positive)
    return most, most
