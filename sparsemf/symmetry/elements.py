"""Random elements of the realization symmetry: disguises of a network that leave its function unchanged.

The generator of test cases with known truth, also used by benchmarks and the documentation.
"""

from __future__ import annotations

import numpy as np

from sparsemf.measures import Network


def disguise(
    network: Network,
    rng: np.random.Generator,
    width: int | None = None,
    flips: bool = True,
    scale: float | None = None,
) -> Network:
    """The same function with ``width`` neurons: split, rescaled, flipped with compensation, padded with dead and
    constant neurons, permuted, and with output scale ``scale`` (default 1/width).

    Exact in real arithmetic.  Half of the surplus neurons are splits, the rest dead (α = 0) or constant
    (w = 0, paid into the offset).  ``width`` must be at least the network's (default: twice that plus 8).
    """
    n, m = network.width, network.m
    width = 2 * n + 8 if width is None else width
    if width < n:
        raise ValueError(f"expected width ≥ {n}, got {width}")
    surplus = width - n
    splits = surplus if n and surplus <= 2 else (surplus // 2 if n else 0)
    dead = (surplus - splits) // 2
    constant = surplus - splits - dead

    owner = np.concatenate([np.arange(n), rng.integers(0, max(n, 1), splits)]).astype(int)
    portion = rng.uniform(0.2, 1.0, owner.size) * np.where(rng.random(owner.size) < 0.2, -0.3, 1.0)
    total = np.zeros(n)
    np.add.at(total, owner, portion)
    for k in np.flatnonzero(np.abs(total) < 0.2):  # keep the split well conditioned
        first = int(np.flatnonzero(owner == k)[0])
        portion[first] += 1.0
        total[k] += 1.0
    alpha = network.alpha[owner] * (portion / total[owner])[:, None]
    inner, bias = network.inner[owner].copy(), network.bias[owner].copy()
    affine, offset = network.affine.copy(), network.offset.copy()

    relation = network.activation.relation
    if flips and relation is not None:
        chosen = rng.random(owner.size) < 0.5
        affine += relation.linear * alpha[chosen].T @ inner[chosen]
        offset += alpha[chosen].T @ (relation.constant + relation.linear * bias[chosen])
        alpha[chosen] *= relation.sign
        inner[chosen] *= -1.0
        bias[chosen] *= -1.0
    if network.activation.homogeneous == 1:
        stretch = np.exp(rng.normal(0.0, 1.0, owner.size))
        alpha, inner, bias = alpha / stretch[:, None], inner * stretch[:, None], bias * stretch
    constant_alpha, constant_bias = rng.standard_normal((constant, m)), rng.standard_normal(constant)
    offset -= constant_alpha.T @ network.activation.value(constant_bias)

    alpha = np.concatenate([alpha, np.zeros((dead, m)), constant_alpha])
    inner = np.concatenate([inner, rng.standard_normal((dead, network.d)), np.zeros((constant, network.d))])
    bias = np.concatenate([bias, rng.standard_normal(dead), constant_bias])
    order = rng.permutation(width)
    scale = 1.0 / max(width, 1) if scale is None else scale
    return Network(
        alpha[order] / scale, inner[order], bias[order], network.activation, scale, affine, offset, network.provenance
    )
