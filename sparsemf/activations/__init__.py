"""Activations: values, realization symmetries, Hermite coefficients and Gaussian kernels (theory: docs/mathematics)."""

from sparsemf.activations.base import Activation, Image, KernelValue, Kind, Relation, Term
from sparsemf.activations.ops import NUMPY, Ops, torch_ops
from sparsemf.activations.registry import UnknownActivation, get, names, register

__all__ = [
    "NUMPY",
    "Activation",
    "Image",
    "KernelValue",
    "Kind",
    "Ops",
    "Relation",
    "Term",
    "UnknownActivation",
    "get",
    "names",
    "register",
    "torch_ops",
]
