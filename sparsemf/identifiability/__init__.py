"""Hermite tensors: flattening spectra, the lower curve L(S), the threshold number S_up."""

from sparsemf.identifiability.flattenings import Flattening, Spectrum, spectrum, symmetric_features
from sparsemf.identifiability.lower import LowerCurve, lower_curve
from sparsemf.identifiability.sampled import ConfidenceCurve, sampled_lower_curve
from sparsemf.identifiability.threshold import ThresholdNumber, s_up

__all__ = [
    "ConfidenceCurve",
    "Flattening",
    "LowerCurve",
    "Spectrum",
    "ThresholdNumber",
    "lower_curve",
    "s_up",
    "sampled_lower_curve",
    "spectrum",
    "symmetric_features",
]
