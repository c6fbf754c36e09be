"""Hermite tensors: flattening spectra, the lower curve L(S), threshold numbers, bounds from coefficients alone."""

from sparsemf.identifiability.compressibility import (
    Compressibility,
    compressibility,
    network_compressibility,
    stechkin_curve,
)
from sparsemf.identifiability.flattenings import Flattening, Spectrum, spectrum, symmetric_features
from sparsemf.identifiability.kink_matrices import KinkMatrix
from sparsemf.identifiability.kink_search import KinkCurve, kink_curve
from sparsemf.identifiability.kinks import ridge_variation
from sparsemf.identifiability.lower import LowerCurve, lower_curve
from sparsemf.identifiability.sampled import ConfidenceCurve, sampled_lower_curve
from sparsemf.identifiability.targets import HermiteTarget
from sparsemf.identifiability.threshold import (
    InvariantThreshold,
    Kind,
    SummedThreshold,
    ThresholdNumber,
    invariant_threshold,
    minimiser_atoms,
    s_up,
    summed_threshold,
)

__all__ = [
    "Compressibility",
    "ConfidenceCurve",
    "Flattening",
    "HermiteTarget",
    "InvariantThreshold",
    "Kind",
    "KinkCurve",
    "KinkMatrix",
    "LowerCurve",
    "Spectrum",
    "SummedThreshold",
    "ThresholdNumber",
    "compressibility",
    "invariant_threshold",
    "kink_curve",
    "lower_curve",
    "minimiser_atoms",
    "network_compressibility",
    "ridge_variation",
    "s_up",
    "sampled_lower_curve",
    "spectrum",
    "stechkin_curve",
    "summed_threshold",
    "symmetric_features",
]
