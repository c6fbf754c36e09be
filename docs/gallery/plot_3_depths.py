r"""
At which degree do Hermite tensors tell the atoms?
==================================================

The first *D* Hermite tensors of a network are what its moments up to degree *D* show. ``depth`` brackets
the least *D* that tells the atoms: to first order (D_var), and against every other network of the family
near them (D_orb). Both ends of a bracket are proved.
"""

# sphinx_gallery_thumbnail_path = 'figures/depths.png'

import numpy as np

from sparsemf import reports
from sparsemf.measures import Network
from sparsemf.pipeline.depth import depth

rng = np.random.default_rng(1)
net = Network(
    outer=np.array([[1.0], [-0.7], [0.5]]),
    inner=rng.standard_normal((3, 4)),
    bias=0.3 * rng.standard_normal(3),
    activation="tanh",
)
found = depth(net).document()
for name, bracket in (("D_var", found["d_var"]["pointwise"]), ("D_orb", found["d_orb"]["near"])):
    print(f"{name} in [{bracket['lower']}, {bracket['upper']}]")

# %%
# As a page, like ``sparsemf depth FILE --html depth.html``.

reports.Embedded(found, height=620)
