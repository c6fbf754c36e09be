"""Networks as measures over neurons, their evaluation, input laws and L² geometry."""

from sparsemf.measures.functions import (
    ARITHMETIC,
    Bounds,
    difference,
    l2_distance,
    l2_norm,
    standard_law,
    sup_norm,
)
from sparsemf.measures.gaussian import Atoms
from sparsemf.measures.laws import Ball, Empirical, Gaussian, InputLaw, InvalidLaw
from sparsemf.measures.network import InvalidNetwork, Network, Provenance

__all__ = [
    "ARITHMETIC",
    "Atoms",
    "Ball",
    "Bounds",
    "Empirical",
    "Gaussian",
    "InputLaw",
    "InvalidLaw",
    "InvalidNetwork",
    "Network",
    "Provenance",
    "difference",
    "l2_distance",
    "l2_norm",
    "standard_law",
    "sup_norm",
]
