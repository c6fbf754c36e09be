"""From the coordinates in which a law is N(0, I) back to those of the inputs."""

from __future__ import annotations

import numpy as np

from sparsemf.measures import Gaussian, InputLaw, Network


def input_coordinates(network: Network, law: InputLaw) -> Network:
    """A network of the whitened coordinates g = root⁺(x − mean) as one of x, the same on the support."""
    if not isinstance(law, Gaussian) or law.is_standard:
        return network
    inverse = np.linalg.pinv(law.root)
    inner, bias = law.unwhiten(network.inner, network.bias)
    affine, offset = law.unwhiten(network.affine, network.offset)
    forms, gate, shift = None, network.gate, network.gate_bias
    if network.quadratic is not None:
        forms = inverse.T @ network.quadratic @ inverse
        pulled = forms @ law.mean
        affine, offset = affine - 2 * pulled, offset + pulled @ law.mean
    if gate is not None and shift is not None:
        gate, shift = law.unwhiten(gate, shift)
    return Network(network.alpha, inner, bias, network.activation, affine=affine, offset=offset,
                   provenance=network.provenance, quadratic=forms, gate=gate, gate_bias=shift)  # fmt: skip
