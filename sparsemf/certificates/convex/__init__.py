"""The convex programs behind S*: programs over measures, over activation cells, their gaps and their non-degeneracy.

Names are loaded on first use, so that importing the package imports no solver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsemf.certificates.convex.cell_program import ReluProgram as ReluProgram
    from sparsemf.certificates.convex.cell_program import relu_program as relu_program
    from sparsemf.certificates.convex.data import DataObservation as DataObservation
    from sparsemf.certificates.convex.dual_slices import Slices as Slices
    from sparsemf.certificates.convex.dual_slices import slices as slices
    from sparsemf.certificates.convex.observation import Atomic as Atomic
    from sparsemf.certificates.convex.population import PopulationObservation as PopulationObservation
    from sparsemf.certificates.convex.program import blasso as blasso
    from sparsemf.certificates.convex.program import blasso_on_data as blasso_on_data
    from sparsemf.certificates.convex.program import blasso_on_network as blasso_on_network
    from sparsemf.certificates.convex.result import BlassoResult as BlassoResult
    from sparsemf.certificates.convex.result import Effort as Effort
    from sparsemf.certificates.convex.result import Status as Status
    from sparsemf.certificates.convex.sparsest import Sparsest as Sparsest
    from sparsemf.certificates.convex.sparsest import sparsest_optimum as sparsest_optimum
    from sparsemf.certificates.convex.stability import Nondegeneracy as Nondegeneracy
    from sparsemf.certificates.convex.stability import nondegeneracy as nondegeneracy
    from sparsemf.certificates.convex.supremum import Supremum as Supremum
    from sparsemf.certificates.convex.vanishing import PreCertificate as PreCertificate
    from sparsemf.certificates.convex.vanishing import precertificate as precertificate

__all__ = [
    "Atomic",
    "BlassoResult",
    "DataObservation",
    "Effort",
    "Nondegeneracy",
    "PopulationObservation",
    "PreCertificate",
    "ReluProgram",
    "Slices",
    "Sparsest",
    "Status",
    "Supremum",
    "blasso",
    "blasso_on_data",
    "blasso_on_network",
    "nondegeneracy",
    "precertificate",
    "relu_program",
    "slices",
    "sparsest_optimum",
]

_HOME = {
    "blasso": "program",
    "blasso_on_data": "program",
    "blasso_on_network": "program",
    "DataObservation": "data",
    "Nondegeneracy": "stability",
    "nondegeneracy": "stability",
    "Atomic": "observation",
    "PopulationObservation": "population",
    "PreCertificate": "vanishing",
    "precertificate": "vanishing",
    "Slices": "dual_slices",
    "slices": "dual_slices",
    "ReluProgram": "cell_program",
    "relu_program": "cell_program",
    "BlassoResult": "result",
    "Effort": "result",
    "Status": "result",
    "Sparsest": "sparsest",
    "sparsest_optimum": "sparsest",
    "Supremum": "supremum",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
