"""The activation patterns of n data points: the cells of the central arrangement {⟨x̃_i, u⟩ = 0} in R^D.

In the row space every open cell is a pointed cone, hence has an extreme ray: a line orthogonal to rank − 1 rows.
Around such a ray v the signs of all other rows are fixed, and those of the rows orthogonal to it are the cells of
*their* arrangement in v^⊥, of one dimension less.  So all cells are found by recursion, in special position too (rows
orthogonal up to 1e-9 of their length count as orthogonal).  In general position there are 2 Σ_{k<D} C(n − 1, k) of
them (Cover 1965).
"""

from __future__ import annotations

from itertools import combinations, islice
from math import comb

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError

Array = NDArray[np.float64]
Signs = NDArray[np.int8]

_ORTHOGONAL = 1e-9
_BLOCK = 4096


def cover_count(n: int, dim: int) -> int:
    """2 Σ_{k < dim} C(n − 1, k): cells of n hyperplanes through 0 in general position."""
    return 2 * sum(comb(n - 1, k) for k in range(dim))


def enumerate_patterns(rows: Array, most_subsets: int = 2_000_000) -> Signs:
    """All sign patterns (P, n) of the open cells, +1 for rows that are 0; raises :class:`InputError` when more than
    ``most_subsets`` sets of rows would have to be examined."""
    length = np.linalg.norm(rows, axis=1)
    seen = length > 1e-12 * np.max(length, initial=0.0)
    out_rows = rows[seen] / length[seen, None]
    if not out_rows.shape[0]:
        return np.ones((1, rows.shape[0]), dtype=np.int8)
    _, s, vt = np.linalg.svd(out_rows, full_matrices=False)
    dim = int(np.sum(s > 1e-10 * s[0]))
    subsets = comb(out_rows.shape[0], dim - 1)
    if subsets > most_subsets:
        raise InputError(
            f"patterns: expected at most {most_subsets} sets of {dim - 1} rows to enumerate all activation patterns, "
            f"got {subsets} ({out_rows.shape[0]} rows in {dim} effective dimensions); sample them instead"
        )
    found = _cells(out_rows @ vt[:dim].T)
    out = np.ones((found.shape[0], rows.shape[0]), dtype=np.int8)
    out[:, seen] = found
    return out


def _cells(rows: Array) -> Signs:
    """The cells of unit rows (n, D) of rank D."""
    n, dim = rows.shape
    if dim == 1:
        side = np.where(rows[:, 0] > 0, 1, -1).astype(np.int8)
        return np.stack([side, -side])
    found: list[Signs] = []
    subsets = combinations(range(n), dim - 1)
    while True:
        block = np.array(list(islice(subsets, _BLOCK)), dtype=np.intp)
        if not block.size:
            break
        _, s, vt = np.linalg.svd(rows[block], full_matrices=True)
        rays = vt[s[:, dim - 2] > _ORTHOGONAL, dim - 1]
        z = rays @ rows.T
        zero = np.abs(z) <= _ORTHOGONAL
        base = np.where(z > 0, 1, -1).astype(np.int8)
        simple = zero.sum(axis=1) == dim - 1
        for ray, signs, incident in zip(rays[~simple], base[~simple], zero[~simple], strict=True):
            found.append(_around(rows, ray, signs, np.flatnonzero(incident)))
        if simple.any():
            # all 2^{D−1} signs of the incident rows
            choice = np.array(np.meshgrid(*[[1, -1]] * (dim - 1))).reshape(dim - 1, -1).T.astype(np.int8)
            index = np.nonzero(zero[simple])[1].reshape(-1, dim - 1)
            part = np.repeat(base[simple][:, None, :], choice.shape[0], axis=1)
            np.put_along_axis(
                part, np.broadcast_to(index[:, None, :], (*part.shape[:2], dim - 1)), choice[None], axis=2
            )
            found.append(part.reshape(-1, n))
        found = [_distinct(np.concatenate(found))]
    both = np.concatenate([found[0], -found[0]]) if found else np.zeros((0, n), dtype=np.int8)
    return _distinct(both)


def _around(rows: Array, ray: Array, signs: Signs, incident: NDArray[np.intp]) -> Signs:
    """The cells that touch a ray: the arrangement of the incident rows in its orthogonal complement."""
    complement = np.linalg.svd(ray[None], full_matrices=True)[2][1:].T
    inner = rows[incident] @ complement
    inner /= np.linalg.norm(inner, axis=1, keepdims=True)
    local = _cells(inner)
    out = np.repeat(signs[None], local.shape[0], axis=0)
    out[:, incident] = local
    return out


def _distinct(signs: Signs) -> Signs:
    packed = np.packbits(signs > 0, axis=1)
    _, index = np.unique(packed, axis=0, return_index=True)
    return signs[index]


def sample_patterns(rows: Array, count: int, rng: np.random.Generator) -> Signs:
    """The distinct patterns of ``count`` Gaussian vectors."""
    u = rng.standard_normal((count, rows.shape[1]))
    return _distinct(np.where(u @ rows.T >= 0, 1, -1).astype(np.int8))
