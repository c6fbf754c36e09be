"""sparsemf: sparse dictionaries of wide two-layer networks, with certificates.

    net = sparsemf.load("model.safetensors", block="encoder.layer.0")
    analysis = sparsemf.analyze(net)              # atoms, S* staircase
    verdict = sparsemf.certify(net, other)        # equivalent / distinct / undecided, with bounds
    run = sparsemf.train("planted-relu")          # a long-time μP measure
    model = sparsemf.SparseDictionary().fit(X, y) # the same dictionary from data, as a scikit-learn estimator

Everything is imported on first use, so that ``import sparsemf`` and the checker cost nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsemf.api import train
    from sparsemf.checkpoints import load, load_blocks, save
    from sparsemf.measures import Ball, Empirical, Gaussian, Network
    from sparsemf.pipeline.analysis import Analysis
    from sparsemf.pipeline.analyze import analyze
    from sparsemf.pipeline.certify import Equivalence, certify
    from sparsemf.pipeline.depth import DepthReport, depth
    from sparsemf.pipeline.estimator import SparseDictionary
    from sparsemf.pipeline.verify import Verification, verify

_HOMES = {
    "Analysis": "sparsemf.pipeline.analysis",
    "Ball": "sparsemf.measures",
    "DepthReport": "sparsemf.pipeline.depth",
    "Empirical": "sparsemf.measures",
    "Equivalence": "sparsemf.pipeline.certify",
    "Gaussian": "sparsemf.measures",
    "Network": "sparsemf.measures",
    "SparseDictionary": "sparsemf.pipeline.estimator",
    "Verification": "sparsemf.pipeline.verify",
    "analyze": "sparsemf.pipeline.analyze",
    "certify": "sparsemf.pipeline.certify",
    "depth": "sparsemf.pipeline.depth",
    "load": "sparsemf.checkpoints",
    "load_blocks": "sparsemf.checkpoints",
    "save": "sparsemf.checkpoints",
    "train": "sparsemf.api",
    "verify": "sparsemf.pipeline.verify",
}

__all__ = [
    "Analysis",
    "Ball",
    "DepthReport",
    "Empirical",
    "Equivalence",
    "Gaussian",
    "Network",
    "SparseDictionary",
    "Verification",
    "analyze",
    "certify",
    "depth",
    "load",
    "load_blocks",
    "save",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sparsemf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
