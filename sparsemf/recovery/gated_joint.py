"""Joint refinement of gated dictionaries along S, in the population (:mod:`sparsemf.recovery.gated_population`).

What :class:`~sparsemf.recovery.joint.Refiner` is to plain atoms: local optima for few atoms, a few matrix-free
Gauss–Newton steps for many, from starts that selection, elimination and clusters give.  Biases are free where f has
some.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures.gated import GatedAtoms
from sparsemf.recovery.gated import GatedGeometry
from sparsemf.recovery.gated_cluster import GatedAgglomeration, merged
from sparsemf.recovery.gated_population import GatedTarget, settle_gated
from sparsemf.recovery.nested import Nested
from sparsemf.recovery.problem import Dictionary, Problem
from sparsemf.recovery.refit import refit
from sparsemf.recovery.selection import backward
from sparsemf.symmetry.gated import gate_flip

Array = NDArray[np.float64]

_DEGREES = (8, 12, 16, 24, 32, 48, 96)
#: The cut tail of the search's series, as a share of the error at hand.
_TAIL = 0.03
_MOST_SELECTED = 0.7
_MERGED_PAIRS = 3
_ROUNDS = 4
_MOST_STEPS = 10
#: Operations that make more Gauss–Newton steps than asked for worth while.
_CHEAP = 1e10
#: Arrays (S, S) of the Gauss–Newton matrix, and how many numbers they may hold.
_ARRAYS, _LARGEST = 90, 2.5e8


@dataclass(frozen=True, eq=False)
class GatedRefiner:
    """Local search over gated atoms; ``selected`` is the greedy path: a beginning of it that is close enough stands for
    f in the search."""

    problem: Problem
    selected: Nested

    @property
    def population(self) -> bool:
        """The search is in the population always."""
        return True

    @property
    def most(self) -> int:
        """The largest dictionary that few-atom refinement takes."""
        return self.problem.n - 1

    @cached_property
    def geometry(self) -> GatedGeometry:
        """The problem's; raises ValueError where it is none of gated atoms."""
        geometry: Any = self.problem.geometry
        if not isinstance(geometry, GatedGeometry):
            raise ValueError("expected a problem of gated atoms")
        return geometry

    @cached_property
    def flips(self) -> bool:
        """Whether gates may be turned for what is free."""
        return gate_flip(self.problem.network, self.geometry.free) is not None

    def clusters(self, uniform: bool = False) -> GatedAgglomeration | None:
        """Ward's clusters of f's atoms; None where their Gram matrix is too large to keep."""
        atoms: Any = self.problem.atoms
        if self.problem.gram is None:
            return None
        return GatedAgglomeration.of(atoms, self.problem.weight, self.problem.gram, self.flips, uniform)

    @cached_property
    def _biases(self) -> tuple[bool, bool]:
        atoms: Any = self.problem.atoms
        return bool(atoms.gate_bias.any()), bool(atoms.bias.any())

    @cached_property
    def _targets(self) -> dict[tuple[int, int], GatedTarget]:
        return {}

    def _target(self, error: float) -> GatedTarget:
        """f, or the least selection of its atoms, at the least degree whose rest is small beside ``error``."""
        problem = self.problem
        atoms: Any = problem.atoms
        close = self.selected.errors <= _TAIL * error
        size = int(np.argmax(close)) if close.any() else problem.n
        degree = _DEGREES[-1]
        for degree in _DEGREES:
            if float(problem.weight @ atoms.tail(degree)) <= _TAIL * error:
                break
        if size > _MOST_SELECTED * problem.n:
            size = problem.n
        if (degree, size) not in self._targets:
            whole = Dictionary(atoms, problem.network.alpha, 0.0)
            used: Any = whole if size == problem.n else self.selected.dictionary(problem, size)
            self._targets[degree, size] = GatedTarget.of(used.atoms, used.beta, degree, self.geometry.free)
        return self._targets[degree, size]

    def few(self, start: Dictionary) -> Dictionary:
        """A local optimum from a start; the series grows as the error falls."""
        best = start
        for _ in range(_ROUNDS):
            atoms: Any = best.atoms
            target = self._target(best.error)
            moved: Any = settle_gated(atoms, target, *self._biases, steps=20, inner=40, tolerance=1e-3).atoms
            found, before = refit(self.problem, moved), best.error
            best = min(best, found, key=lambda dictionary: dictionary.error)
            if found.error > 0.5 * before:
                break
        return best

    def many(self, start: Dictionary, steps: int, inner: int, work: float) -> Any:
        """``steps`` steps from a start, or more where they are cheap; None where they cost more than ``work``, or too
        much memory."""
        atoms: Any = start.atoms
        target = self._target(start.error)
        once = self._work(atoms.n, target.alpha.shape[0], inner, target.atoms.degree)
        if once * steps > work or _ARRAYS * atoms.n**2 > _LARGEST:
            return None
        most = int(np.clip(_CHEAP / once, steps, max(steps, _MOST_STEPS)))
        return settle_gated(atoms, target, *self._biases, steps=most, inner=inner).atoms

    def _work(self, size: int, n: int, inner: int, degree: int) -> float:
        """Floating-point operations of a step, roughly."""
        d, m = self.problem.network.d, self.problem.network.m
        pairs = size * (n + size)
        slope = pairs * (22.0 * d + 4.0 * m + 80.0 * degree + 200.0)
        product = size**2 * (22.0 * d + 200.0) + 4.0 * size**3
        return slope + (inner + 1) * product + size**2 * (130.0 * degree + 1000.0)

    def smaller(self, current: Dictionary) -> list[GatedAtoms]:
        """Dictionaries of one atom less: the cheapest one left out, or a pair merged that Ward's cost finds close."""
        atoms: Any = current.atoms
        n = atoms.n
        gram = self.problem.geometry.gram(atoms, atoms)
        found = [atoms.take(backward(gram, gram @ current.beta, n - 1)[: n - 1])]
        size = np.maximum(atoms.size, 1e-300)
        weight = np.linalg.norm(current.beta, axis=1) * size + 1e-300
        kernel = gram / np.outer(size, size)
        square = np.diag(kernel)
        cost = np.multiply.outer(weight, weight) / np.add.outer(weight, weight)
        cost *= np.maximum(np.add.outer(square, square) - 2.0 * np.abs(kernel), 0.0)
        cost[np.tril_indices(n)] = np.inf
        for flat in np.argsort(cost, axis=None)[: min(_MERGED_PAIRS, n * (n - 1) // 2)]:
            i, j = divmod(int(flat), n)
            found.append(merged(atoms, weight, i, j, self.flips))
        return found
