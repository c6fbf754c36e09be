r"""
From data to atoms
==================

:class:`sparsemf.SparseDictionary` is a scikit-learn regressor: a greedy path with joint refinement, then the atoms
that a stated error asks for. It goes into pipelines and grid searches like any other.
"""

import numpy as np
from sklearn.model_selection import train_test_split

import sparsemf
from sparsemf_datasets import planted_network

teacher = planted_network("tanh", d=6, atoms=4, seed=2)
rng = np.random.default_rng(0)
x = rng.standard_normal((1500, 6))
y = teacher(x)[:, 0] + 0.01 * rng.standard_normal(1500)
train_x, test_x, train_y, test_y = train_test_split(x, y, random_state=0)

model = sparsemf.SparseDictionary("tanh").fit(train_x, train_y)
print(f"{model.n_atoms_} atoms, R² on unseen data {model.score(test_x, test_y):.5f}")

# %%
# Each of them lies along one of the teacher's directions.

unit = model.atoms_ / np.linalg.norm(model.atoms_, axis=1, keepdims=True)
lines = teacher.inner / np.linalg.norm(teacher.inner, axis=1, keepdims=True)
print("largest |cos| with the teacher's directions:", np.abs(unit @ lines.T).max(axis=1).round(5))
