r"""
Are these two networks the same function?
=========================================

A network behind a random element of the realization symmetry - neurons permuted, split, rescaled, flipped with the cost
paid into the affine part, dead and constant ones added - looks like another one. ``certify`` sees through it, and
what it says is checked by a program that knows nothing of how it was found.
"""

# sphinx_gallery_thumbnail_path = 'figures/classes.png'

import numpy as np

import sparsemf
from sparsemf.symmetry import disguise
from sparsemf_datasets import load_measure

net = load_measure("tanh-teacher")
hidden = disguise(net, np.random.default_rng(0), width=1500)
print(f"{net.width} and {hidden.width} neurons")

found = sparsemf.certify(net, hidden, rel_eps=1e-6)
print(f"{found.verdict}: the distance is between {found.lower:.1e} and {found.upper:.1e}")

# %%
# One neuron turned by half a degree is another function, and a point shows it.

inner = net.inner.copy()
turn = np.radians(0.5)
u = inner[0] / np.linalg.norm(inner[0])
side = np.eye(net.d)[0] - u[0] * u
inner[0] = np.linalg.norm(inner[0]) * (np.cos(turn) * u + np.sin(turn) * side / np.linalg.norm(side))

found = sparsemf.certify(net, net.with_(inner=inner), rel_eps=1e-6)
print(f"{found.verdict}: at least {found.lower:.2e}, at most {found.upper:.2e}")
print(f"at a witness x the outputs differ by {found.gap:.2e}")
