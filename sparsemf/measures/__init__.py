"""Networks as measures over neurons, their evaluation, input laws and L² geometry."""

from sparsemf.measures.network import InvalidNetwork, Network, Provenance

__all__ = ["InvalidNetwork", "Network", "Provenance"]
