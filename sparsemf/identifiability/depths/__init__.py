"""Identifiability depths: how many Hermite tensors determine a network's atoms (estimates; certificates elsewhere)."""

from sparsemf.identifiability.depths.family import Family
from sparsemf.identifiability.depths.jacobian import jacobian, numeric_rank
from sparsemf.identifiability.depths.power_sums import PowerSums, power_sum_depths
from sparsemf.identifiability.depths.recover import Recovered, recover_lines, recover_scale
from sparsemf.identifiability.depths.scales import Solution, other_scales
from sparsemf.identifiability.depths.search import FibrePoint, other_solutions
from sparsemf.identifiability.depths.variety import singular_scale, variety_depth

__all__ = [
    "Family",
    "FibrePoint",
    "PowerSums",
    "Recovered",
    "Solution",
    "jacobian",
    "numeric_rank",
    "other_scales",
    "other_solutions",
    "power_sum_depths",
    "recover_lines",
    "recover_scale",
    "singular_scale",
    "variety_depth",
]
