"""Two inequivalent lists of numbers with the same power sums, proved to exist near given floats.

For degrees k₁ < … < k_S and the exact floats w (S,), the system Σ_i x_i^{k_j} = Σ_i w_i^{k_j} is square; Krawczyk's
operator on a box around a float candidate, in balls, shows one exact solution in it, where the Jacobian is regular: so
the same holds for all lists near w.  It is another list when some sorted coordinate is certainly different.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from sparsemf.certificates.checker.depth_moments import precision
from sparsemf.certificates.checker.document import Refused

Array = NDArray[np.float64]


def _power(x: arb, k: int) -> arb:
    out = arb(1)
    for _ in range(k):
        out = out * x
    return out


def another_list(w: Array, near: Array, degrees: Sequence[int], half: float = 1e-9) -> list[arb]:
    """The box (S balls) of a solution ≠ w up to order; raises :class:`Refused` where it is not shown."""
    n = w.size
    if w.shape != (n,) or near.shape != (n,) or len(degrees) != n or any(k < 1 for k in degrees):
        raise Refused("a square system of power sums is expected")
    with precision():
        centre = [arb(float(x)) for x in near]
        box = [arb(float(x), half) for x in near]
        gap = [
            sum((_power(x, k) for x in centre), arb(0)) - sum((_power(arb(float(v)), k) for v in w), arb(0))
            for k in degrees
        ]
        point = np.array([[k * float(x) ** (k - 1) for x in near] for k in degrees])
        try:
            inverse = arb_mat(np.linalg.inv(point).tolist())
        except np.linalg.LinAlgError:
            raise Refused("the Jacobian is singular there") from None
        product = inverse * arb_mat([[k * _power(x, k - 1) for x in box] for k in degrees])
        step = inverse * arb_mat([[g] for g in gap])
        for i in range(n):
            total = abs(step[i, 0])
            for j in range(n):
                total += abs(arb(int(i == j)) - product[i, j]) * half * (1 + 1e-12)
            if not total < half:
                raise Refused("no exact solution is shown there")
        ours = sorted(float(x) for x in w)
        theirs = sorted(box, key=lambda x: float(x.mid()))
        if not any(x < v or x > v for x, v in zip(theirs, ours, strict=True)):
            raise Refused("the solution may be the list itself")
        return box
