"""Particles → atoms: subset selection, clustering, convex refit, joint refinement; the staircase's upper curve."""

from sparsemf.recovery.cluster import MergePath, merge_path
from sparsemf.recovery.data import DataPath, data_path, random_atoms
from sparsemf.recovery.empirical import EmpiricalGeometry
from sparsemf.recovery.geometry import GaussianGeometry, Geometry
from sparsemf.recovery.problem import Dictionary, Problem
from sparsemf.recovery.refine import Refined, Sample, refine
from sparsemf.recovery.refit import refit
from sparsemf.recovery.selection import backward, forward
from sparsemf.recovery.staircase import Effort, Progress, UpperCurve, upper_curve

__all__ = [
    "DataPath",
    "Dictionary",
    "Effort",
    "EmpiricalGeometry",
    "GaussianGeometry",
    "Geometry",
    "MergePath",
    "Problem",
    "Progress",
    "Refined",
    "Sample",
    "UpperCurve",
    "backward",
    "data_path",
    "forward",
    "merge_path",
    "random_atoms",
    "refine",
    "refit",
    "upper_curve",
]
