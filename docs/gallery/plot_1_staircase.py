r"""
How many features are there really?
===================================

A measure of 512 relu neurons, trained on a teacher of 5 atoms, ships with the package. ``analyze`` takes it to a
sparse dictionary and to the certified staircase: for every *S* an explicit network of *S* atoms within
*U(S)*, and the proof that none comes closer than *L(S)*.
"""

# sphinx_gallery_thumbnail_path = 'figures/report.png'

import sparsemf
from sparsemf import reports
from sparsemf_datasets import load_measure

net = load_measure("relu-teacher")
analysis = sparsemf.analyze(net)
star = analysis.s_star
print(f"{net.width} neurons; S* = {star.value}, certified: {star.certified}")
low, high = (end / analysis.norm.upper for end in star.eps)
print(f"for every error from {low:.1e} to {high:.2f} of the norm")

# %%
# The atoms, in input coordinates, the largest first: particles are the neurons of the source nearest to each.

for atom in analysis.atoms:
    print(f"alpha {atom.alpha[0]:+.3f}   {atom.particles:3d} particles, spread {atom.spread:.1e}   w {atom.w.round(2)}")

# %%
# The whole report, as ``sparsemf analyze dataset:relu-teacher --html report.html`` writes it.

reports.Embedded(analysis.document(), height=760)
