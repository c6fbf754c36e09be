"""The few elementwise operations an activation is written in, for numpy and torch alike.

An activation family states its formula once, in terms of an :class:`Ops`; the analysis evaluates it with
numpy in float64, the trainer with torch on any device.  torch is imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import special

Elementwise = Callable[[Any], Any]


@dataclass(frozen=True)
class Ops:
    """Elementwise operations of one array library.

    ``sigmoid(z) = 1/(1+e^{-z})``, ``softplus(z) = log(1+e^z)``, ``ndtr`` the standard normal distribution
    function, ``step(z) = 1[z > 0]``, ``maximum0(z) = max(z, 0)``, ``expm1(z) = e^z − 1``.
    """

    name: str
    exp: Elementwise
    expm1: Elementwise
    sin: Elementwise
    cos: Elementwise
    arctan: Elementwise
    tanh: Elementwise
    erf: Elementwise
    sigmoid: Elementwise
    softplus: Elementwise
    ndtr: Elementwise
    absolute: Elementwise
    sign: Elementwise
    maximum0: Elementwise
    step: Elementwise


NUMPY = Ops(
    name="numpy",
    exp=np.exp,
    expm1=np.expm1,
    sin=np.sin,
    cos=np.cos,
    arctan=np.arctan,
    tanh=np.tanh,
    erf=special.erf,
    sigmoid=special.expit,
    softplus=lambda z: np.logaddexp(0.0, z),
    ndtr=special.ndtr,
    absolute=np.abs,
    sign=np.sign,
    maximum0=lambda z: np.maximum(z, 0.0),
    step=lambda z: np.asarray(z > 0.0, dtype=np.float64),
)


@cache
def torch_ops() -> Ops:
    """The same operations on torch tensors (dtype and device follow the argument)."""
    import torch

    return Ops(
        name="torch",
        exp=torch.exp,
        expm1=torch.expm1,
        sin=torch.sin,
        cos=torch.cos,
        arctan=torch.atan,
        tanh=torch.tanh,
        erf=torch.erf,
        sigmoid=torch.sigmoid,
        softplus=lambda z: torch.logaddexp(torch.zeros((), dtype=z.dtype, device=z.device), z),
        ndtr=torch.special.ndtr,
        absolute=torch.abs,
        sign=torch.sign,
        maximum0=torch.relu,
        step=lambda z: (z > 0).to(z.dtype),
    )
