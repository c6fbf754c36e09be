"""Joint refinement along S: warm starts from below and above, merged atoms, restarts from pursuit.

*Few atoms* (every S up to some dozen, and the S after which the merge path has its largest drops).  Upwards: the atoms
of S − 1 with the best new one (pursuit), the clusters' centres, and the greedy selection each give a start, and the two
best are refined.  Downwards: the atoms of S + 1 without the cheapest one, or with a close pair merged, are refined.

*Many atoms* (log-spaced S): the best of all paths so far is refined by a few matrix-free Gauss–Newton steps.  Its
elimination path serves the S below, its extension by greedy selection the S above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.measures import Atoms, Network
from sparsemf.recovery.empirical import EmpiricalGeometry
from sparsemf.recovery.geometry import GaussianGeometry
from sparsemf.recovery.nested import Nested
from sparsemf.recovery.population import Target, settle
from sparsemf.recovery.problem import Charged, Dictionary, Problem
from sparsemf.recovery.refine import Sample, refine
from sparsemf.recovery.refit import factorised, refit
from sparsemf.recovery.selection import backward
from sparsemf.symmetry import Section, point_distances

Array = NDArray[np.float64]

_MEANINGFUL_DROP = 3.0
_MERGED_PAIRS = 3
_ROUNDS = 4
_MOST_SELECTED = 0.7
_WORTH_A_TRY = 1.5
_DEGREES = (8, 12, 16, 24, 32, 48, 96)
#: The cut tail of the search's series, as a share of the error at hand.
_TAIL = 0.03
_MOST_STEPS = 10
#: Operations that make more Gauss–Newton steps than asked for worth while.
_CHEAP = 1e10


class Clusters(Protocol):
    """Merging along a path: atoms in the middle of clusters, and what merging costs."""

    def costs(self) -> Array:
        """Dearest first: entry S − 1 is what going from S + 1 to S clusters costs."""
        ...

    def centres(self, size: int) -> Any:
        """One atom per cluster."""
        ...


class Search(Protocol):
    """Local search from a dictionary."""

    @property
    def problem(self) -> Problem:
        """What is approximated."""
        ...

    def few(self, start: Dictionary) -> Dictionary:
        """A local optimum from a start."""
        ...

    def smaller(self, current: Dictionary) -> list[Any]:
        """Dictionaries of one atom less."""
        ...


@dataclass(frozen=True, eq=False)
class Refiner:
    """Local search over all atoms: in the population under a Gaussian law, on data rows under an empirical one.

    ``selected`` is the greedy path: a beginning of it that is close enough stands for f in the search.
    ``sample`` inputs and ``parameters`` free parameters at most in the latter case.
    """

    problem: Problem
    selected: Nested
    sample: int
    parameters: int

    @cached_property
    def with_bias(self) -> bool:
        """Whether biases are free: f has some."""
        return bool(self.problem.network.bias.any())

    @property
    def population(self) -> bool:
        """Whether the search is in the population."""
        return isinstance(self.problem.geometry, GaussianGeometry)

    @property
    def most(self) -> int:
        """The largest dictionary that few-atom refinement takes."""
        per_atom = self.problem.network.d + int(self.with_bias)
        return self.problem.n - 1 if self.population else min(self.problem.n - 1, self.parameters // per_atom)

    @property
    def _free(self) -> int:
        geometry = self.problem.geometry
        return geometry.free if isinstance(geometry, (GaussianGeometry, EmpiricalGeometry)) else 1

    @cached_property
    def _targets(self) -> dict[tuple[int, int], Target]:
        return {}

    def _target(self, error: float) -> Target:
        """f, or the least selection of its atoms, at the least degree whose rest is small beside ``error``."""
        problem = self.problem
        close = self.selected.errors <= _TAIL * error
        size = int(np.argmax(close)) if close.any() else problem.n
        degree = _DEGREES[-1]
        for degree in _DEGREES:
            if float(np.linalg.norm(problem.weight * problem.atoms.tail(degree))) <= _TAIL * error:
                break
        if size > _MOST_SELECTED * problem.n:
            size = problem.n
        if (degree, size) not in self._targets:
            whole = Dictionary(problem.atoms, problem.network.alpha, 0.0)
            used = whole if size == problem.n else self.selected.dictionary(problem, size)
            # a selection stands for all of f, with what is charged
            own = problem.charged if size == problem.n else None
            charged = own if isinstance(own, Charged) else None
            self._targets[degree, size] = Target.of(used.atoms, used.beta, degree, self._free, charged)
        return self._targets[degree, size]

    @cached_property
    def _sample(self) -> Sample:
        network = self.problem.network
        x = self.problem.geometry.sample(max(self.sample, 6 * self.parameters))
        return Sample.of(x, network(x), self._free)

    def few(self, start: Dictionary) -> Dictionary:
        """A local optimum from a start; the series grows as the error falls."""
        best = start
        for _ in range(_ROUNDS if self.population else 1):
            if self.population:
                moved = settle(
                    best.atoms, self._target(best.error), self.with_bias, steps=12, inner=30, tolerance=3e-3
                ).atoms
            else:
                moved = refine(best.atoms, self._sample, self.with_bias).atoms
            found, before = refit(self.problem, moved), best.error
            best = min(best, found, key=lambda dictionary: dictionary.error)
            if found.error > 0.5 * before:
                break
        return best

    def many(self, start: Dictionary, steps: int, inner: int, work: float) -> Atoms | None:
        """``steps`` steps from a start, or more where they are cheap; None where they cost more than ``work``."""
        target = self._target(start.error)
        once = self._work(start.atoms.n, inner, target.atoms.degree)
        if once * steps > work:
            return None
        most = int(np.clip(_CHEAP / once, steps, max(steps, _MOST_STEPS)))
        return settle(start.atoms, target, self.with_bias, steps=most, inner=inner).atoms

    def smaller(self, current: Dictionary) -> list[Atoms]:
        """Dictionaries of one atom less: the cheapest one left out, or a close pair merged."""
        return smaller(self.problem, current)

    def _work(self, size: int, inner: int, degree: int) -> float:
        """Floating-point operations of a step, roughly."""
        n, d, m = self.problem.n, self.problem.network.d, self.problem.network.m
        pairs = size * (n + size)
        slope = pairs * (6.0 * (d + m) + 100.0 * degree)
        product = 8.0 * size**2 * d + 4.0 * size**3
        return 1.5 * slope + (inner + 1) * product + 200.0 * size**2 * degree


def few_sizes(path: Clusters, most: int, up_to: int, drops: int) -> list[int]:
    """1 … up_to, and the sizes after which the merge path has its largest relative drops; at the largest of them with
    one atom less, too, which neither particles nor clusters describe well."""
    sizes = set(range(1, min(most, up_to) + 1))
    costs = path.costs()[: most + 1]
    if costs.size > 2:
        drop = costs[:-1] / np.maximum(costs[1:], 1e-300)  # from S + 1 = index + 2 clusters on, merging is cheap
        for rank, index in enumerate(np.argsort(-drop)[:drops]):
            if drop[index] >= _MEANINGFUL_DROP and index + 2 <= most:
                sizes |= {int(index) + 2} if rank else {int(index) + 1, int(index) + 2}
    return sorted(sizes)


def few_atoms(
    refiner: Search,
    selected: Atoms,
    sizes: list[int],
    path: Clusters,
    enough: float,
    progress: Callable[[float], None],
) -> dict[int, Dictionary]:
    """Refined dictionaries of the given sizes; ``selected`` are atoms of f in greedy order.

    The way up ends after the first S that comes within ``enough``.
    """
    problem = refiner.problem
    best: dict[int, Dictionary] = {}
    for done, size in enumerate(sizes):
        progress(done / (2 * len(sizes)))
        starts = [refit(problem, path.centres(size))]
        if size - 1 in best:
            below = best[size - 1]
            starts.append(refit(problem, below.atoms.joined(below.atoms, best_new_atom(problem, below))))
        if selected.n >= size:
            starts.append(refit(problem, selected.take(slice(size))))
        starts.sort(key=lambda found: found.error)
        second = [start for start in starts[1:2] if start.error < _WORTH_A_TRY * starts[0].error]
        best[size] = min((refiner.few(start) for start in [starts[0], *second]), key=lambda found: found.error)
        if best[size].error <= enough:
            break
    for done, size in enumerate(sorted(best, reverse=True)):
        progress(0.5 + done / (2 * len(best)))
        if size + 1 not in best:
            continue
        start = min((refit(problem, atoms) for atoms in refiner.smaller(best[size + 1])), key=lambda found: found.error)
        found = refiner.few(start)
        if found.error < best[size].error:
            best[size] = found
    return best


def best_new_atom(problem: Problem, current: Dictionary) -> Atoms:
    """The particle of f with the largest ‖⟨φ_i, r⟩‖²/‖φ_i − Πφ_i‖²."""
    cross = problem.geometry.gram(problem.atoms, current.atoms)
    factor = factorised(problem.geometry.gram(current.atoms, current.atoms))
    half = linalg.solve_triangular(factor, cross.T, lower=True, check_finite=False)
    correlation = problem.image - cross @ current.beta
    left = problem.diagonal - np.sum(half**2, axis=0)
    score = np.sum(correlation**2, axis=1) / np.maximum(left, 1e-9 * np.maximum(problem.diagonal, 1e-300))
    score[problem.diagonal <= 0] = -1.0
    return problem.atoms.take(np.array([int(np.argmax(score))]))


def smaller(problem: Problem, current: Dictionary) -> list[Atoms]:
    """Dictionaries of one atom less: the cheapest one left out, or a pair merged whose mass moves least."""
    atoms, n = current.atoms, current.atoms.n
    rows = np.arange(n)
    gram = problem.geometry.gram(atoms, atoms)
    found = [atoms.take(backward(gram, gram @ current.beta, n - 1)[: n - 1])]
    section = Section.of(Network(current.beta, atoms.inner, atoms.bias, atoms.activation))
    mass = np.linalg.norm(section.kappa, axis=1)
    distance, sign = point_distances(section.points, section.points, problem.flips)
    cost = np.minimum(mass[:, None], mass) * distance
    cost[np.tril_indices(n)] = np.inf
    for flat in np.argsort(cost, axis=None)[: min(_MERGED_PAIRS, n * (n - 1) // 2)]:
        i, j = divmod(int(flat), n)
        total = max(mass[i] + mass[j], 1e-300)
        point = (mass[i] * section.points[i] + mass[j] * sign[i, j] * section.points[j]) / total
        rest = atoms.take(rows[(rows != i) & (rows != j)])
        found.append(Atoms.joined(rest, Atoms(atoms.activation, point[None, :-1], point[-1:])))
    return found
