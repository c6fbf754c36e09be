"""Random networks of S small integer atoms, rewritten exactly with more neurons: no count excludes S or changes."""

from __future__ import annotations

import numpy as np
import pytest

from cases import ACTIVATIONS
from rewriting import rewritten
from sparsemf.certificates.exact import exact_count
from sparsemf.measures import Network


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rewritten_networks_have_the_same_count(name: str) -> None:
    rng = np.random.default_rng(len(name))
    for _ in range(40):
        d, m, atoms = (int(v) for v in rng.integers([1, 1, 0], [4, 4, 6]))
        net = Network(
            rng.integers(-3, 4, (atoms, m)), rng.integers(-2, 3, (atoms, d)), rng.integers(-2, 3, atoms), name
        )
        one, other = exact_count(net, width=False), exact_count(rewritten(rng, net), width=False)
        assert other.lower <= one.upper <= atoms
        assert one.lower <= other.upper
        if one.certified and other.certified:
            assert one.value == other.value
