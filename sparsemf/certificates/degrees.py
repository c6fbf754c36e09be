"""How many Hermite degrees a Gram form takes: more and more of them while they are worth their price.

What lies beyond degree K of a steep smooth neuron falls like e^{−y√(2K)/‖w‖}, y the width of its strip of analyticity
(π/2 for tanh): a cloud of particles around atoms of ‖w‖ = 3 needs some 500 degrees to be told from the atoms to 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsemf.certificates.checker import equivalence as checked
from sparsemf.certificates.checker import gated_series, series
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import ORDER
from sparsemf.certificates.checker.expansion import Expanded

_LADDER = (64, 192, 512, checked.HIGHEST_DEGREE)
_SLOW = ("softsign",)
"""Cores whose coefficients take too long for many degrees."""


def ladder(h: Expanded, first: int, gated: bool) -> Iterator[int]:
    """``first`` and the larger degrees at which the Gram form of h can be afforded in float64.  ``h``: of gated blocks
    the gates."""
    n, d, m = h.core.size, h.w.shape[1], h.alpha.shape[1]
    affordable = gated_series.affordable if gated else series.affordable
    if affordable(Arithmetic(0), n, d, m, first):
        yield first
    if not np.isin([ORDER.index(name) for name in _SLOW], h.core).any():
        yield from (k for k in _LADDER if k > first and affordable(Arithmetic(0), n, d, m, k))
