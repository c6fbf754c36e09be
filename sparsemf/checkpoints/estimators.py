"""scikit-learn's MLPRegressor and MLPClassifier, in memory (a pickle of one is never opened)."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsemf.exceptions import InputError
from sparsemf.measures.network import Network, Provenance


def from_sklearn(estimator: Any) -> Network:
    """The network of a fitted ``MLPRegressor`` or ``MLPClassifier`` with one hidden layer.

    coefs_ are (d, N) and (N, m).  For a classifier f is the score *before* the softmax or logistic function of the
    output, which the provenance records.  Raises :class:`~sparsemf.exceptions.InputError` when the estimator is not
    fitted, has another number of hidden layers, or an activation without a dictionary (identity).
    """
    name = type(estimator).__name__
    if not hasattr(estimator, "hidden_layer_sizes"):
        raise InputError(f"expected MLPRegressor or MLPClassifier, got {name}")
    if not hasattr(estimator, "coefs_"):
        raise InputError(f"{name}: expected a fitted estimator; call fit first")
    if len(estimator.coefs_) != 2:
        hidden = len(estimator.coefs_) - 1
        raise InputError(f"{name}: expected one hidden layer, got {hidden}; fit with hidden_layer_sizes=(N,)")
    inner, outer = estimator.coefs_
    output = getattr(estimator, "out_activation_", "identity")
    extra = {} if output == "identity" else {"output_activation": output}
    return Network(
        outer,
        np.asarray(inner).T,
        estimator.intercepts_[0],
        activation=estimator.activation,
        offset=estimator.intercepts_[1],
        provenance=Provenance(source=name, block="main", precision=str(inner.dtype), extra=extra),
    )
