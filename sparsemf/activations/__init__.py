"""Activations: values, realization symmetries, Hermite coefficients and Gaussian kernels (theory: docs/mathematics)."""

from sparsemf.activations.base import Activation, KernelValue, Relation
from sparsemf.activations.ops import NUMPY, Ops, torch_ops
from sparsemf.activations.registry import UnknownActivation, get, names, register

__all__ = [
    "NUMPY",
    "Activation",
    "KernelValue",
    "Ops",
    "Relation",
    "UnknownActivation",
    "get",
    "names",
    "register",
    "torch_ops",
]
