"""The realization symmetry: active component, canonical form, quotient metric, random group elements."""

from sparsemf.symmetry.elements import disguise
from sparsemf.symmetry.grouping import Grouping, group, grouped_bound
from sparsemf.symmetry.metric import Section, leaders, point_distances, quotient_distances
from sparsemf.symmetry.quotient import DomainReduction, Quotient, domain_reduction, quotient

__all__ = [
    "DomainReduction",
    "Grouping",
    "Quotient",
    "Section",
    "disguise",
    "domain_reduction",
    "group",
    "grouped_bound",
    "leaders",
    "point_distances",
    "quotient",
    "quotient_distances",
]
