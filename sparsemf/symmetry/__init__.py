"""The realization symmetry: active component, canonical form, quotient metric, random group elements."""

from sparsemf.symmetry.algebraic import Kruskal, kruskal, moments
from sparsemf.symmetry.canonical import Quotient
from sparsemf.symmetry.elements import disguise
from sparsemf.symmetry.gated import gated_quotient
from sparsemf.symmetry.grouping import Grouping, group, grouped_bound
from sparsemf.symmetry.kinks import KinkCount, kink_edges
from sparsemf.symmetry.metric import Section, leaders, point_distances, quotient_distances
from sparsemf.symmetry.quotient import DomainReduction, accepts, domain_reduction, quotient

__all__ = [
    "DomainReduction",
    "Grouping",
    "KinkCount",
    "Kruskal",
    "Quotient",
    "Section",
    "accepts",
    "disguise",
    "domain_reduction",
    "gated_quotient",
    "group",
    "grouped_bound",
    "kink_edges",
    "kruskal",
    "leaders",
    "moments",
    "point_distances",
    "quotient",
    "quotient_distances",
]
