"""The upper curve U(S): for every S an explicit S-atom dictionary and a certified bound of ‖f − f_S‖.

The best of several *paths* counts at each S, and U is made monotone, as fewer atoms are allowed: the greedy selection path
and backward elimination (:mod:`sparsemf.recovery.selection`); jointly refined dictionaries, their elimination paths
downwards and their extensions upwards (:mod:`sparsemf.recovery.joint`).  Every beginning of every path is certified
(:mod:`sparsemf.recovery.nested`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Empirical, Network
from sparsemf.recovery.cluster import merge_path
from sparsemf.recovery.geometry import EmpiricalGeometry, GaussianGeometry, Geometry
from sparsemf.recovery.joint import Refiner, few_atoms, few_sizes
from sparsemf.recovery.nested import Nested, explicit, nested
from sparsemf.recovery.problem import Dictionary, Problem
from sparsemf.recovery.selection import backward, forward

Array = NDArray[np.float64]
Progress = Callable[[str, float], None]

#: Where K is too large to keep (more than 5000 atoms) the greedy path ends here.
_LONGEST_PATH = 4096
_LARGEST_JOINT = 0.92


def _silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Effort:
    """How hard to look.

    Attributes
    ----------
    few :
        Joint refinement to a local optimum for every S ≤ ``few`` …
    drops :
        … and at so many more S after which merging becomes cheap.
    joint :
        Joint refinement by ``steps`` Gauss–Newton steps of ≤ ``inner`` products at so many log-spaced S beyond
        (Gaussian laws).
    work :
        Floating-point operations that one of these S may cost; dearer ones are left out.
    sample, parameters :
        Under an empirical law: rows that steer the search (times 4), and free parameters of a refined dictionary.
    """

    few: int = 12
    drops: int = 3
    joint: int = 10
    steps: int = 2
    inner: int = 6
    work: float = 3e12
    sample: int = 4096
    parameters: int = 800


@dataclass(eq=False)
class _Curve:
    """The best path at each S so far."""

    problem: Problem
    upper: Array
    paths: list[Nested] = field(default_factory=list)
    owner: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def offer(self, path: Nested) -> None:
        """Take the path where it is better."""
        known = path.errors[: self.upper.size]
        better = np.flatnonzero(known < self.upper[: known.size])
        if better.size:
            self.upper[better] = known[better]
            self.owner[better] = len(self.paths)
            self.paths.append(path)

    def best(self, size: int) -> Atoms | None:
        """The atoms of the best dictionary of exactly ``size`` atoms, if a path has one."""
        owner = int(self.owner[size])
        return self.paths[owner].atoms.take(slice(size)) if owner >= 0 else None


@dataclass(frozen=True, eq=False)
class UpperCurve:
    """``upper[S]`` ≥ ‖f − f_S‖ for S = 0 … n (certified), and the explicit dictionaries behind it.

    ``norm`` is ‖f‖_⊥ (the free affine part removed).  The dictionary that gives upper[S] consists of the first
    ``source[S]`` atoms of ``paths[owner[S]]``; owner −1 is f itself.
    """

    problem: Problem
    norm: float
    upper: Array
    source: NDArray[np.int64]
    owner: NDArray[np.int64]
    paths: list[Nested]

    def dictionary(self, size: int) -> Dictionary:
        """An explicit dictionary of at most ``size`` atoms with error upper[size]."""
        best = int(self.source[size])
        owner = int(self.owner[best])
        if owner < 0:
            return Dictionary(self.problem.atoms, self.problem.network.alpha, float(self.upper[size]))
        return self.paths[owner].dictionary(self.problem, best)

    def network(self, size: int) -> Network:
        """The dictionary with its best affine part, as a network in the problem's coordinates."""
        found = self.dictionary(size)
        network = self.problem.network
        affine, offset = self.problem.geometry.affine(network, found.atoms, found.beta)
        return Network(
            found.beta,
            found.atoms.inner,
            found.atoms.bias,
            network.activation,
            affine=affine,
            offset=offset,
            provenance=network.provenance,
        )


def geometry_of(network: Network, law: Empirical | None) -> Geometry:
    """The geometry of an empirical law, or of N(0, I) for a whitened network."""
    return GaussianGeometry.of(network) if law is None else EmpiricalGeometry.of(law)


def upper_curve(
    network: Network,
    law: Empirical | None = None,
    floor: float = 0.0,
    effort: Effort | None = None,
    resolution: float = 1e-6,
    progress: Progress = _silent,
) -> UpperCurve:
    """U(S) for a canonical (and, for a Gaussian law, whitened) network.

    ``floor`` bounds how far the canonical network is from the source: it is added to every U(S).  Work stops
    where U(S) falls below ``resolution``·‖f‖_⊥.
    """
    effort = effort or Effort()
    problem = Problem(network, geometry_of(network, law))
    n = problem.n
    norm = float(np.sqrt(problem.energy))
    curve = _Curve(problem, np.full(n + 1, np.inf), owner=np.full(n + 1, -1, dtype=np.int64))
    curve.upper[n] = 0.0
    progress("selecting atoms", 0.1)
    order = forward(problem, n if problem.gram is not None else _LONGEST_PATH, (0.1 * resolution * norm) ** 2)
    selected = explicit(problem, nested(problem, problem.atoms.take(order), order))
    curve.offer(selected)
    if order.size > 2:
        progress("eliminating atoms", 0.25)
        _eliminate(curve, order)
    if n > 1:
        target = resolution * norm
        refiner = Refiner(problem, effort.sample, effort.parameters)
        _few(curve, refiner, selected.atoms, effort, target, progress)
        if refiner.population:
            _many(curve, refiner, selected.errors, effort, target, progress)
    source = np.arange(n + 1)
    for size in range(1, n + 1):
        if curve.upper[size] >= curve.upper[size - 1]:
            curve.upper[size], source[size] = curve.upper[size - 1], source[size - 1]
    return UpperCurve(problem, norm, curve.upper + floor, source, curve.owner, curve.paths)


def _eliminate(curve: _Curve, order: NDArray[np.int64]) -> None:
    """Backward elimination from the atoms of the greedy path."""
    problem = curve.problem
    chosen = np.sort(order)
    atoms = problem.atoms.take(chosen)
    gram = problem.geometry.gram(atoms, atoms) if problem.gram is None else problem.gram[np.ix_(chosen, chosen)]
    index = chosen[backward(gram, problem.image[chosen], 1)]
    curve.offer(nested(problem, problem.atoms.take(index), index))


def _few(
    curve: _Curve, refiner: Refiner, selected: Atoms, effort: Effort, target: float, progress: Progress
) -> None:
    """Local optima for few atoms, and their elimination paths."""
    problem = curve.problem
    if refiner.most < 1:
        return
    path = merge_path(problem)
    sizes = few_sizes(path, refiner.most, effort.few, effort.drops)
    found = few_atoms(
        refiner, selected, sizes, path, target, lambda part: progress("refining atoms", 0.3 + 0.3 * part)
    )
    for size in sorted(found):
        curve.offer(_downwards(problem, found[size], max(1, size // 2)))


def _downwards(problem: Problem, found: Dictionary, down_to: int) -> Nested:
    """A dictionary in the order of its backward elimination; its own certified error stands at the end."""
    atoms = found.atoms
    image = problem.geometry.gram(problem.atoms, atoms).T @ problem.network.alpha
    order = backward(problem.geometry.gram(atoms, atoms), image, min(down_to, atoms.n))
    path = nested(problem, atoms.take(order))
    path.errors[-1] = min(path.errors[-1], found.error)
    path.errors[:down_to] = np.inf
    return path


def _many(
    curve: _Curve, refiner: Refiner, selected: Array, effort: Effort, target: float, progress: Progress
) -> None:
    """Refined dictionaries at log-spaced S, with their elimination and extension paths."""
    problem = curve.problem
    enough = selected <= target
    end = int(np.argmax(enough)) if enough.any() else selected.size - 1
    first, last = effort.few + 2, int(_LARGEST_JOINT * end)
    if effort.joint < 1 or last < first:
        return
    sizes = np.unique(np.geomspace(first, last, effort.joint).astype(int)).tolist()
    for done, size in enumerate(sizes):
        progress("refining many atoms", 0.6 + 0.4 * done / len(sizes))
        start = curve.best(size)
        if start is None or refiner.work(size, effort.steps, effort.inner) > effort.work:
            continue
        moved = refiner.many(start, effort.steps, effort.inner)
        below = sizes[done - 1] if done else 1
        curve.offer(_downwards(problem, Dictionary(moved, np.zeros(0), np.inf), below))
        if problem.gram is not None:
            above = sizes[done + 1] if done + 1 < len(sizes) else end
            added = forward(problem, above - size, 0.0, moved)
            curve.offer(nested(problem, Atoms.joined(moved, problem.atoms.take(added))))
