"""Small convex programs on data with their certificates, shared by the tests."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from sparsemf.activations import get
from sparsemf.certificates.convex import BlassoResult, Effort, blasso_on_data

CASES: dict[str, dict[str, Any]] = {
    "relu d=2": {"d": 2, "activation": "relu", "bias": False},
    "relu d=2, bias": {"d": 2, "activation": "relu", "bias": True},
    "relu d=3, two outputs": {"d": 3, "m": 2, "activation": "relu", "bias": False},
    "relu d=4": {"d": 4, "activation": "relu", "bias": False},
    "relu d=2, free affine part": {"d": 2, "activation": "relu", "bias": True, "affine": True, "n": 14, "lam": 0.012},
    "relu of rank 2 in d=5": {"d": 5, "activation": "relu", "bias": False, "rank": 2},
    "relu d=1": {"d": 1, "activation": "relu", "bias": False},
    "leaky d=3": {"d": 3, "activation": "leaky_relu(0.1)", "bias": False},
    "abs d=2, two outputs, bias": {"d": 2, "m": 2, "activation": "abs", "bias": True},
    "tanh d=2": {"d": 2, "activation": "tanh", "bias": False},
    "tanh d=2, bias": {"d": 2, "activation": "tanh", "bias": True, "bias_radius": 1.3},
    "tanh d=3, two outputs": {"d": 3, "m": 2, "activation": "tanh", "bias": False},
    "tanh d=4": {"d": 4, "activation": "tanh", "bias": False},
    "tanh d=5": {"d": 5, "activation": "tanh", "bias": False, "lam": 0.6},
    "tanh d=2, free affine part": {
        "d": 2,
        "activation": "tanh",
        "bias": True,
        "affine": True,
        "bias_radius": 0.9,
        "lam": 0.02,
    },
    "tanh of rank 2 in d=7": {"d": 7, "activation": "tanh", "bias": True, "rank": 2, "bias_radius": 1.0},
    "gelu d=2": {"d": 2, "activation": "gelu", "bias": False, "lam": 0.05},
    "sigmoid d=2, two outputs": {"d": 2, "m": 2, "activation": "sigmoid", "bias": False},
    "silu d=2": {"d": 2, "activation": "silu", "bias": False},
    "softplus d=2": {"d": 2, "activation": "softplus", "bias": False},
    "erf d=2": {"d": 2, "activation": "erf", "bias": False},
    "arctan d=2": {"d": 2, "activation": "arctan", "bias": False},
    "cos d=2, two outputs": {"d": 2, "m": 2, "activation": "cos", "bias": False},
    "relu2 d=2, bias": {"d": 2, "activation": "relu2", "bias": True},
    "relu2 of rank 2 in d=4, two outputs": {"d": 4, "m": 2, "activation": "relu2", "bias": False, "rank": 2},
    "gelu_tanh d=2, bias": {"d": 2, "activation": "gelu_tanh", "bias": True, "bias_radius": 1.0, "lam": 0.05},
    "mish d=2": {"d": 2, "activation": "mish", "bias": False, "lam": 0.05},
    "elu d=2, bias": {"d": 2, "activation": "elu", "bias": True, "bias_radius": 1.0, "lam": 0.05},
    "celu d=2, two outputs": {"d": 2, "m": 2, "activation": "celu(0.5)", "bias": False, "lam": 0.05},
    "selu d=2, bias": {"d": 2, "activation": "selu", "bias": True, "bias_radius": 1.0},
    "softsign d=3": {"d": 3, "activation": "softsign", "bias": False, "lam": 0.05},
    "hardtanh d=2": {"d": 2, "activation": "hardtanh", "bias": False},
    "exp d=2, bias": {"d": 2, "activation": "exp", "bias": True, "bias_radius": 0.6},
    "quadratic d=4": {"d": 4, "activation": "quadratic", "bias": False},
    "quadratic d=2, two outputs, bias": {"d": 2, "m": 2, "activation": "quadratic", "bias": True},
    "cubic of rank 2 in d=4": {"d": 4, "activation": "cubic", "bias": False, "rank": 2},
    "linear d=3, two outputs": {"d": 3, "m": 2, "activation": "linear", "bias": True},
    "hermite(3) d=2, free affine part": {
        "d": 2,
        "activation": "hermite(3)",
        "bias": True,
        "affine": True,
        "bias_radius": 0.5,
        "lam": 0.02,
    },
    "nothing is worth its price": {"d": 2, "activation": "relu", "bias": True, "lam": 30.0},
}


@cache
def solved(name: str) -> tuple[BlassoResult, dict[str, Any]]:
    """The result of a case and its certificate; change neither."""
    case = CASES[name]
    rng = np.random.default_rng([5, *name.encode()])
    n, d, m = case.get("n", 20), case["d"], case.get("m", 1)
    x = rng.standard_normal((n, case.get("rank", d))) @ (
        rng.standard_normal((case["rank"], d)) if "rank" in case else np.eye(d)
    )
    teacher = rng.standard_normal((d, 2)) / np.sqrt(d)
    y = np.tanh(x @ teacher + 0.3) @ rng.standard_normal((2, m)) + 0.1 * rng.standard_normal((n, m))
    options = {key: case[key] for key in ("bias", "affine", "bias_radius") if key in case}
    if get(case["activation"]).homogeneous is None:
        options["radius"] = 1.1
    result = blasso_on_data(
        x, y, case.get("lam", 0.15), case["activation"], **options, effort=Effort(starts=60, regions=60_000)
    )
    return result, json.loads(json.dumps(result.certificate()))
