"""What a network is to its staircase where its affine part is charged to the atoms (gated blocks: :mod:`.gated`).

S*(ε) then counts the atoms of networks g = Σ α_s σ(⟨w_s, x⟩ + b_s) + c with ‖f − g‖ ≤ ε, c free (``affine`` "offset",
free = 0) or 0 ("charged", free = −1); f may have A and c, which the atoms have to approximate.  The claims:

1. *Coordinates.*  x = m + Rg maps networks without A (without A and c) to such networks, atom by atom, so N(0, I) is
   enough: w′ = Rᵀw, b′ = b + ⟨w, m⟩, A′ = AR, c′ = c + Am.  Under a singular law an atom may become a constant; that
   is still one atom (w = 0).
2. *Degrees.*  ‖f − g‖² = Σ_{k > free} ‖T_k(f) − T_k(g)‖² + what the best c leaves, which is nothing at k = 0 when c is
   free.  An atom of either kind has T_k = c_k α û^{⊗k} for every k ≥ 0 (c_k = 0 for k ≥ 1 where w = 0), so both curves
   are those of the free affine part with the first degree free + 1.
3. *Orientation.*  A flip σ(z) = s·σ(−z) + P(z) is no symmetry where P has a degree > free.  The quotient makes only
   the flips that cost nothing (:func:`~sparsemf.symmetry.metric.free_flip`).
4. *A file that was flipped.*  For any numbers x_i, with P(z) = p₀ + p₁z,

       Σ α_iσ(z_i) + Ax + c = Σ (1 − x_i)α_iσ(z_i) + Σ s·x_iα_iσ(−z_i)
                              + [A + p₁Σ x_iα_iw_iᵀ]x + [c + Σ x_iα_i(p₀ + p₁b_i)],

   so where A (and c) lies in the span of the atoms' own, f has no affine part with as many atoms as x has entries
   other than 0 and 1 more: :func:`reoriented` solves for x by least squares.
5. *What is left of A and c* stays in the target; silent atoms (α = 0) that can make it are offered to the selection:
   pairs σ(z) − s·σ(−z) along the singular vectors of A, or the most nearly linear atoms there, and a constant.
6. *Every ε > 0.*  (σ(δz + b) − σ(b))/δ → σ′(b)z in L² as δ → 0, so S*(ε) ≤ neurons + rank A (+ 1 for constants, where
   they are charged): :func:`enough_atoms`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Gaussian, Network
from sparsemf.pipeline.reduction import Reduced
from sparsemf.symmetry import Quotient, quotient
from sparsemf.symmetry.algebraic import is_algebraic
from sparsemf.symmetry.canonical import rounding
from sparsemf.symmetry.metric import flip_of

Array = NDArray[np.float64]

FREE = {"free": 1, "offset": 0, "charged": -1}
"""What ``affine`` says, as the degree up to which polynomials are free."""

_SINGULAR = 1e-12
_MOST_AXES = 512
_WHOLE = 1e-6
"""A share of a flip within this of 0 or 1 is tried as 0 or 1."""
_STEEPNESS = (0.05, 0.3, 1.0)
_LEVELS = np.linspace(-6.0, 6.0, 97)


def free_of(affine: str) -> int:
    """The degree up to which polynomials are free (1: or 2, as the network says).  Raises :class:`InputError`."""
    if affine not in FREE:
        raise InputError(f"affine: expected one of {', '.join(FREE)}, got {affine!r}")
    return FREE[affine]


def refused(network: Network, affine: str) -> None:
    """Raises :class:`InputError` where the affine part cannot be charged, and says why."""
    kind = None
    if network.gated and network.activation.kind == "matrix":
        kind = "a gated block with a linear gate, which is a quadratic form"
    elif network.quadratic is not None:
        kind = "a network with a quadratic part, which is free beside its atoms"
    elif not network.gated and is_algebraic(network.activation):
        kind = f"{network.activation.name} atoms, whose S* is a matrix rank (field `exact`)"
    if kind is not None:
        raise InputError(f"--affine {affine}: expected neurons σ(⟨w, x⟩ + b), got {kind}; use "
                         "--affine free")  # fmt: skip


def charged_reduction(network: Network, law: Gaussian, free: int, biased: bool = True) -> Reduced:
    """The reduction of a plain network under a Gaussian law, with ``free`` ∈ {−1, 0}; silent atoms with biases of their
    own are offered where they may have some (``biased``)."""
    seen, found, error = charged_canonical(law.whiten(network), free)
    return Reduced(with_candidates(found, free, biased), law.whitening_error(network) + error, free, seen, found)


def charged_canonical(network: Network, free: int) -> tuple[Quotient, Network, float]:
    """(the canonical form with the flips that leave least of A and c, the network that it is without what of these is
    rounding, the error of both in L²(N(0, I)))."""
    seen = quotient(network, free)
    found, error = seen.network, seen.error
    small = 8 * rounding(found)
    if _charged_norm(found, free) > small:
        other = reoriented(quotient(network), free)
        rank = int(np.linalg.matrix_rank(found.affine)) if found.affine.any() else 0
        if other is not None and other.network.width <= found.width + 2 * rank + 1:
            lost = 8 * rounding(other.network)
            seen, found, small = other, other.network, max(small, lost)
            error = other.error + lost
    if _charged_norm(found, free) <= small:
        error += _charged_norm(found, free)
        offset = np.zeros(found.m) if free < 0 else found.offset
        found = found.with_(affine=np.zeros_like(found.affine), offset=offset)
    return seen, found, error


def _charged_norm(network: Network, free: int) -> float:
    """‖A x + c‖ of a white network, as far as it is charged."""
    offset = float(np.linalg.norm(network.offset)) if free < 0 else 0.0
    return float(np.hypot(np.linalg.norm(network.affine), offset))


def enough_atoms(network: Network, active: int, constant: int, free: int) -> int:
    """S*(ε) ≤ this for every ε > 0; ``active`` and ``constant`` neurons of the network."""
    rank = min(int(network.affine.any(axis=1).sum()), int(network.affine.any(axis=0).sum()))
    level = free < 0 and bool(rank or constant or network.offset.any())
    return active + rank + level


def reoriented(seen: Quotient, free: int) -> Quotient | None:
    """A canonical form whose atoms are flipped, or split into both orientations, so that nothing charged is left
    (to rounding); None where σ has no such flip or the least-squares problem of the module's docstring no solution.

    Normal equations: G = p₁²(ααᵀ)∘(wwᵀ) (+ (ααᵀ)∘(hhᵀ), h = p₀ + p₁b, where c is charged).
    """
    network, flip = seen.network, flip_of(seen.network.activation)
    if flip is None or flip.cost <= free or flip.cost > 1 or flip.centre or not network.width:
        return None
    alpha, w, b = network.alpha, network.inner, network.bias
    height = (flip.constant + flip.linear * b) if free < 0 else np.zeros(b.size)
    gram = (alpha @ alpha.T) * (flip.linear**2 * (w @ w.T) + np.multiply.outer(height, height))

    def left(x: Array) -> tuple[Array, Array]:
        share = x[:, None] * alpha
        affine = network.affine + flip.linear * (share.T @ w)
        return affine, network.offset + share.T @ (flip.constant + flip.linear * b)

    def size(x: Array) -> float:
        affine, offset = left(x)
        return float(np.hypot(np.linalg.norm(affine), np.linalg.norm(offset) if free < 0 else 0.0))

    x = np.zeros(b.size)
    for _ in range(3):
        affine, offset = left(x)
        image = flip.linear * np.sum(alpha * (w @ affine.T), axis=1) + height * (alpha @ offset) * (free < 0)
        x = x - np.linalg.lstsq(gram, image, rcond=1e-13)[0]
    whole = np.where(np.abs(x - np.round(x)) <= _WHOLE, np.round(x), x)
    whole = np.where(np.isin(whole, (0.0, 1.0)), whole, x)
    small = 8 * rounding(network)
    x = whole if size(whole) <= small else x
    if not size(x) <= small:
        return None
    affine, offset = left(x)
    kept, turned = np.flatnonzero(x != 1.0), np.flatnonzero(x != 0.0)
    found = network.with_(
        outer=np.concatenate([(1 - x[kept])[:, None] * alpha[kept], flip.sign * x[turned, None] * alpha[turned]]),
        inner=np.concatenate([w[kept], -w[turned]]),
        bias=np.concatenate([b[kept], -b[turned]]),
        affine=affine,
        offset=offset,
    )
    # a neuron is counted with its atom's first orientation
    position = np.full(b.size, -1, dtype=np.int64)
    position[turned] = kept.size + np.arange(turned.size)
    position[kept] = np.arange(kept.size)
    label = np.where(seen.label >= 0, position[seen.label] if b.size else -1, -1)
    return replace(seen, network=found, label=label)


@dataclass(frozen=True)
class _Linear:
    """An atom σ(δ⟨v, x⟩ + level), ‖v‖ = 1, that is as linear as one of its steepness δ can be."""

    steepness: float
    level: float


def _nearly_linear(activation: Activation) -> list[_Linear]:
    """For each steepness the level b with the largest c_1²/(E σ² − c_0²)."""
    found = []
    for steepness in _STEEPNESS:
        atoms = Atoms(activation, np.full((_LEVELS.size, 1), steepness), _LEVELS)
        low = atoms.hermite(1)
        variance = np.maximum(atoms.second_moment - low[:, 0] ** 2, 1e-300)
        # a slope that is all but 0 would need a coefficient that loses every digit
        share = np.where(np.abs(low[:, 1]) > 1e-2 * np.max(np.abs(low[:, 1])), low[:, 1] ** 2 / variance, -1.0)
        best = np.flatnonzero(share >= share.max() * (1 - 1e-9))
        found.append(_Linear(steepness, float(_LEVELS[best[np.argmin(np.abs(_LEVELS[best]))]])))
    return found


def with_candidates(network: Network, free: int, biased: bool = True) -> Network:
    """The network with silent atoms that can make what of A and c is charged; only such without a bias unless
    ``biased``."""
    m, d = network.m, network.d
    inner, bias = [np.zeros((0, d))], [np.zeros(0)]
    if network.affine.any():
        size, axes = np.linalg.svd(network.affine, full_matrices=False)[1:]
        axes = axes[size > _SINGULAR * size[0]][:_MOST_AXES]
        flip = flip_of(network.activation)
        if flip is not None and flip.linear:
            inner += [axes, -axes]
            bias.append(np.zeros(2 * axes.shape[0]))
        for atom in _nearly_linear(network.activation) if biased else ():
            inner.append(atom.steepness * axes)
            bias.append(np.full(axes.shape[0], atom.level))
    if free < 0 and (network.width or network.affine.any() or network.offset.any()):
        levels = _LEVELS[np.abs(_LEVELS) <= (1.0 if biased else 0.0)]
        inner.append(np.zeros((1, d)))
        bias.append(levels[[int(np.argmax(np.abs(network.activation.value(levels))))]])
    more, shift = np.concatenate(inner), np.concatenate(bias)
    if not shift.size:
        return network
    return network.with_(
        outer=np.concatenate([network.alpha, np.zeros((shift.size, m))]),
        inner=np.concatenate([network.inner, more]),
        bias=np.concatenate([network.bias, shift]),
        scale=1.0,
    )
