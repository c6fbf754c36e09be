"""The upper curve U(S): for every S an explicit S-atom dictionary and a certified bound of ‖f − f_S‖.

The best of several *paths* counts at each S, and U is made monotone, as fewer atoms are allowed: the greedy selection
path and backward elimination (:mod:`sparsemf.recovery.selection`); jointly refined dictionaries, their elimination
paths downwards and their extensions upwards (:mod:`sparsemf.recovery.joint`; gated atoms:
:mod:`sparsemf.recovery.gated_joint`); clusters' means where particles are alike.  Every beginning of every path is
certified (:mod:`sparsemf.recovery.nested`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Empirical, Network
from sparsemf.measures.gaussian import free_degree
from sparsemf.recovery.cluster import Agglomeration, merge_path
from sparsemf.recovery.empirical import EmpiricalGeometry
from sparsemf.recovery.gated import GatedGeometry, gated_dictionary
from sparsemf.recovery.gated_joint import GatedRefiner
from sparsemf.recovery.geometry import GaussianGeometry, Geometry
from sparsemf.recovery.joint import Refiner, few_atoms, few_sizes
from sparsemf.recovery.nested import Nested, nested
from sparsemf.recovery.problem import Dictionary, Problem
from sparsemf.recovery.refit import refit, solve
from sparsemf.recovery.selection import backward, forward

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Progress = Callable[[str, float], None]
_Refiner = Refiner | GatedRefiner

#: Where K is too large to keep (more than 5000 atoms) the greedy path ends here.
_LONGEST_PATH = 4096
#: Beyond so many atoms, joint refinement ends at this share of them: there nearly all of f is kept.
_SMALL, _LARGEST_JOINT = 256, 0.7
#: Clusters' means are tried at so many S log-spaced from either end; if they are the best at one of these, at all S
#: that so many operations (of each kind of clusters in the dust) allow, for f of so many atoms at most.
_MEANS = 6
_MEANS_WORK = 4e10
_DUST_WORK = 2e10
_USUAL_DUST = 8
#: Operations that a refined S in the dust may cost, for each of the S asked for there.
_DUST_STEP = 2.5e8
_MEANS_ATOMS = 2048


def _silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Effort:
    """How hard to look.

    Attributes
    ----------
    few :
        Joint refinement to a local optimum for every S ≤ ``few`` …
    fine :
        Where these come within ``fine``·‖f‖_⊥ already - a cloud around few atoms - the larger S describe its dust, and
        count as done by the searches above and below, as does any S at which the greedy path is that close.
    dust :
        Unless this is 0 (at most the usual number, for kernels in closed form): there, too, means of two kinds of
        clusters, and so many log-spaced S refined like ``joint``.
    drops :
        … and at so many more S after which merging becomes cheap.
    joint :
        Joint refinement by ``steps`` Gauss–Newton steps of ≤ ``inner`` products at so many log-spaced S beyond
        (Gaussian laws) …
    sizes :
        … or at these S, where some are given.
    work :
        Floating-point operations that one of these S may cost; dearer ones are left out.
    sample, parameters :
        Under an empirical law: rows that steer the search, and free parameters of a refined dictionary.
    """

    few: int = 8
    fine: float = 0.02
    dust: int = _USUAL_DUST
    drops: int = 3
    joint: int = 10
    sizes: tuple[int, ...] = ()
    steps: int = 2
    inner: int = 6
    work: float = 3e12
    sample: int = 4096
    parameters: int = 800

    @staticmethod
    def named(name: str) -> Effort:
        """What selection finds, hardly refined ("quick"), the default ("usual"), or some five times its work, at every
        S ("thorough").  Raises :class:`~sparsemf.exceptions.InputError`."""
        if name not in EFFORTS:
            raise InputError(f"effort: expected one of {', '.join(EFFORTS)}, got {name!r}")
        return Effort(**EFFORTS[name])


EFFORTS: dict[str, dict[str, Any]] = {
    "quick": {"few": 2, "drops": 1, "joint": 0, "dust": 0},
    "usual": {},
    "thorough": {"few": 12, "drops": 4, "joint": 20, "steps": 4, "dust": 40},
}
"""The named efforts."""


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

    def finished(self, norm: float, floor: float, settled: int | None = None) -> UpperCurve:
        """The curve, monotone; ``floor`` is added."""
        upper, source = self.upper.copy(), np.arange(self.upper.size)
        for size in range(1, upper.size):
            if upper[size] >= upper[size - 1]:
                upper[size], source[size] = upper[size - 1], source[size - 1]
        settled = len(self.paths) if settled is None else settled
        return UpperCurve(self.problem, norm, upper + floor, source, self.owner, self.paths, floor, settled)

    @staticmethod
    def empty(problem: Problem) -> _Curve:
        """Nothing but f itself, with what its atoms do not make of the polynomial part that is charged."""
        upper = np.full(problem.n + 1, np.inf)
        upper[-1] = problem.own_error
        return _Curve(problem, upper, owner=np.full(problem.n + 1, -1, dtype=np.int64))

    def best(self, size: int) -> Atoms | None:
        """The atoms of the best dictionary of exactly ``size`` atoms, if a path has one."""
        owner = int(self.owner[size])
        return self.paths[owner].atoms.take(slice(size)) if owner >= 0 else None


@dataclass(frozen=True, eq=False)
class UpperCurve:
    """``upper[S]`` ≥ ‖f − f_S‖ for S = 0 … n (certified), and the explicit dictionaries behind it.

    ``norm`` is ‖f‖_⊥ (the free polynomials removed).  The dictionary that gives upper[S] consists of the first
    ``source[S]`` atoms of ``paths[owner[S]]``; owner −1 is f itself.  ``floor`` is part of every U(S); the first
    ``settled`` paths are those that were found before the dust was looked at.
    """

    problem: Problem
    norm: float
    upper: Array
    source: NDArray[np.int64]
    owner: NDArray[np.int64]
    paths: list[Nested]
    floor: float
    settled: int

    def without_dust(self) -> UpperCurve:
        """The curve without what was found for the dust around few atoms: there these atoms go on as S grows, while
        those of the lowest error are others at every S."""
        if self.settled == len(self.paths):
            return self
        curve = _Curve.empty(self.problem)
        for path in self.paths[: self.settled]:
            curve.offer(path)
        return curve.finished(self.norm, self.floor)

    def dictionary(self, size: int) -> Dictionary:
        """An explicit dictionary of at most ``size`` atoms with error upper[size]."""
        best = int(self.source[size])
        owner = int(self.owner[best])
        if owner < 0:
            return Dictionary(self.problem.atoms, self.problem.network.alpha, float(self.upper[size]))
        return self.paths[owner].dictionary(self.problem, best)

    def network(self, size: int) -> Network:
        """The dictionary with its best affine (or quadratic) part, where that is free, as a network in the problem's
        coordinates."""
        found = self.dictionary(size)
        network = self.problem.network
        if isinstance(self.problem.geometry, GatedGeometry):
            return gated_dictionary(network, found, self.problem.geometry.free)
        geometry, form = self.problem.geometry, None
        gate, shift = getattr(found.atoms, "gate", None), getattr(found.atoms, "gate_bias", None)
        if isinstance(geometry, (GaussianGeometry, EmpiricalGeometry)):
            affine, offset, form = geometry.polynomial(network, found.atoms, found.beta)
        else:
            affine, offset = geometry.affine(network, found.atoms, found.beta)
        return Network(
            found.beta,
            found.atoms.inner,
            found.atoms.bias,
            network.activation,
            affine=affine,
            offset=offset,
            provenance=network.provenance,
            quadratic=form,
            gate=gate,
            gate_bias=shift,
        )


def geometry_of(network: Network, law: Empirical | None, free: int | None = None) -> Geometry:
    """The geometry of an empirical law, or of N(0, I) for a whitened network, polynomials of degree ≤ ``free`` free."""
    if law is not None:
        return EmpiricalGeometry.of(law, free_degree(network) if free is None else free)
    return GatedGeometry.of(network, free) if network.gated else GaussianGeometry.of(network, free)


def upper_curve(
    network: Network,
    law: Empirical | None = None,
    floor: float = 0.0,
    effort: Effort | None = None,
    resolution: float = 1e-6,
    progress: Progress = _silent,
    free: int | None = None,
) -> UpperCurve:
    """U(S) for a canonical (and, for a Gaussian law, whitened) network, gated or not.

    ``floor`` bounds how far the canonical network is from the source: it is added to every U(S).  Work stops
    where U(S) falls below ``resolution``·‖f‖_⊥.  ``free``: the degree up to which polynomials are free (default
    :func:`~sparsemf.measures.gaussian.free_degree`); where it is 0 or −1, the network's A (and c) are part of what the
    atoms approximate, and its neurons with α = 0 are no part of it, but may be chosen.
    """
    effort = effort or Effort()
    problem = Problem(network, geometry_of(network, law, free))
    n = problem.n
    norm = float(np.sqrt(problem.energy))
    curve = _Curve.empty(problem)
    progress("selecting atoms", 0.1)
    order = forward(problem, n if problem.gram is not None else _LONGEST_PATH, (0.1 * resolution * norm) ** 2)
    selected = nested(problem, problem.atoms.take(order), order)
    curve.offer(selected)
    if order.size > 2:
        progress("eliminating atoms", 0.25)
        _eliminate(curve, order)
    settled = None
    if n > 1 and not (network.gated and law is not None):  # gated atoms are refined in the population only
        target = resolution * norm
        refiner: _Refiner = (
            GatedRefiner(problem, selected)
            if network.gated
            else Refiner(problem, selected, effort.sample, effort.parameters)
        )
        _few(curve, refiner, selected.atoms, effort, target, progress)
        fine = max(target, effort.fine * norm)
        if curve.upper[: effort.few + 1].min() > fine:
            _means(curve, refiner, selected.errors, effort.few + 1, fine, _MEANS_WORK)
            if refiner.population:
                _many(curve, refiner, selected.errors, effort, fine, progress)
        settled = len(curve.paths)
        # kernels in closed form cost some twenty times what a series does
        dear = isinstance(problem.geometry, (GaussianGeometry, GatedGeometry)) and problem.geometry.degree is None
        if fine > target and effort.dust > (_USUAL_DUST if dear else 0):
            dust = max(_end(curve.upper, fine) + 1, effort.few + 1)
            for uniform in (False, True):
                _means(curve, refiner, selected.errors, dust, target, _DUST_WORK, uniform)
            if refiner.population and not effort.sizes:
                work = min(effort.work, effort.dust * _DUST_STEP)
                light = replace(effort, few=dust - 1, joint=effort.dust, work=work)
                _many(curve, refiner, selected.errors, light, target, progress, lowest=dust)
    return curve.finished(norm, floor, settled)


def _eliminate(curve: _Curve, order: NDArray[np.int64]) -> None:
    """Backward elimination from the atoms of the greedy path."""
    problem = curve.problem
    chosen = np.sort(order)
    atoms = problem.atoms.take(chosen)
    gram = problem.geometry.gram(atoms, atoms) if problem.gram is None else problem.gram[np.ix_(chosen, chosen)]
    index = chosen[backward(gram, problem.image[chosen], 1)]
    curve.offer(nested(problem, problem.atoms.take(index), index))


def _few(curve: _Curve, refiner: _Refiner, selected: Atoms, effort: Effort, target: float, progress: Progress) -> None:
    """Local optima for few atoms, and their elimination paths."""
    problem = curve.problem
    if refiner.most < 1:
        return
    path = refiner.clusters() if isinstance(refiner, GatedRefiner) else merge_path(problem)
    if path is None:
        return
    sizes = few_sizes(path, refiner.most, effort.few, effort.drops)
    found = few_atoms(refiner, selected, sizes, path, target, lambda part: progress("refining atoms", 0.3 + 0.3 * part))
    for size in sorted(found):
        curve.offer(_downwards(problem, found[size], max(1, size // 2)))


def _downwards(problem: Problem, found: Dictionary, down_to: int) -> Nested:
    """A dictionary in the order of its backward elimination; its own certified error stands at the end."""
    atoms = found.atoms
    image = problem.image_of(atoms, problem.geometry.gram(problem.atoms, atoms))
    order = backward(problem.geometry.gram(atoms, atoms), image, min(down_to, atoms.n))
    path = nested(problem, atoms.take(order))
    path.errors[:down_to] = np.inf
    if found.error >= path.errors[-1]:
        return path
    path.errors[-1] = found.error
    return replace(path, last=found.beta[order])


def _end(selected: Array, target: float) -> int:
    """The first S at which the greedy path is close enough, or its end."""
    enough = selected <= target
    return int(np.argmax(enough)) if enough.any() else selected.size - 1


def _means(
    curve: _Curve,
    refiner: _Refiner,
    selected: Array,
    first: int,
    target: float,
    work: float,
    uniform: bool = False,
) -> None:
    """Means of clusters from S = ``first`` on, refitted, where these beat the other paths."""
    problem = curve.problem
    last = min(_end(selected, target), problem.n - 1)
    if problem.gram is None or last < first:
        return
    clusters: Any = (
        refiner.clusters(uniform) if isinstance(refiner, GatedRefiner) else Agglomeration.of(problem, uniform)
    )
    spaced = np.geomspace(1, last - first + 1, _MEANS).astype(int) - 1
    probes = np.unique(np.concatenate([first + spaced, last - spaced]))  # how few are needed, how few can be left out
    if problem.n > _MEANS_ATOMS:
        for size in probes.tolist():
            curve.offer(_alone(refit(problem, clusters.means(size))))
        return
    if not _best_means(curve, clusters, probes):
        return
    sizes, count = np.arange(first, last + 1), int(work / (problem.n**3 / 12 + problem.n**2 * problem.network.m))
    if sizes.size > count:
        sizes = np.unique(np.concatenate([np.linspace(first, last, count // 2), np.geomspace(first, last, count // 2)]))
    _best_means(curve, clusters, np.setdiff1d(sizes.astype(int), probes))


def _best_means(curve: _Curve, clusters: Agglomeration, sizes: Integers) -> bool:
    """Offer the clusters' means at these S, from one kernel among all that occur; whether any is the best there."""
    problem = curve.problem
    if not sizes.size:
        return False
    known = np.unique(np.concatenate([clusters.clusters(size) for size in sizes.tolist()]))
    nodes = clusters.nodes.take(known)
    length, tail = problem.geometry.length(nodes), problem.geometry.tail(nodes)
    cross, own = problem.geometry.gram(problem.atoms, nodes), problem.geometry.gram(nodes, nodes)
    image = problem.image_of(nodes, cross)
    low, helped = None if problem.charged is None else problem.charged.image(nodes), False
    for size in sizes.tolist():
        index = np.searchsorted(known, clusters.clusters(size))
        gram = own[np.ix_(index, index)]
        beta = solve(gram, image[index])
        quick = problem.energy - 2.0 * float(np.sum(beta * image[index])) + float(np.sum(beta * (gram @ beta)))
        if quick < curve.upper[: size + 1].min() ** 2:
            if isinstance(problem.geometry, EmpiricalGeometry):
                error = problem.dictionary_error(nodes.take(index), beta)
            else:
                own_low = None if low is None else low[index]
                error = problem.expanded_error(beta, cross[:, index], gram, length[index], tail[index], own_low)
            curve.offer(_alone(Dictionary(nodes.take(index), beta, error)))
            helped = True
    return helped


def _alone(found: Dictionary) -> Nested:
    """A dictionary that is certified as a whole only."""
    errors = np.full(found.atoms.n + 1, np.inf)
    errors[-1] = found.error
    return Nested(found.atoms, errors, None, last=found.beta)


def _many(
    curve: _Curve,
    refiner: _Refiner,
    selected: Array,
    effort: Effort,
    target: float,
    progress: Progress,
    lowest: int = 1,
) -> None:
    """Refined dictionaries at log-spaced S, with their elimination (down to ``lowest``) and extension paths."""
    problem = curve.problem
    end = _end(selected, target)
    first, last = effort.few + 1, end - 1 if end <= _SMALL else int(_LARGEST_JOINT * end)
    if effort.joint < 1 or (last < first and not effort.sizes):
        return
    if effort.sizes:
        sizes = sorted({size for size in effort.sizes if first <= size < end})
    else:
        sizes = np.unique(np.geomspace(first, last, effort.joint).astype(int)).tolist()
    turns = list(zip(sizes, [lowest, *sizes[:-1]], [*sizes[1:], end], strict=True)) if sizes else []
    if end <= _SMALL and not effort.sizes:
        # how few can be left out: down from all of them, each time from what the last one left
        near = (end - np.unique(np.geomspace(1, end - first, effort.joint).astype(int))).tolist()
        turns += zip(near, [*near[1:], first], [end, *near[:-1]], strict=True)
    for done, (size, below, above) in enumerate(turns):
        progress("refining many atoms", 0.6 + 0.4 * done / len(turns))
        start = curve.best(size)
        if start is None:
            continue
        known = Dictionary(start, np.zeros(0), float(curve.upper[size]))
        moved = refiner.many(known, effort.steps, effort.inner, effort.work)
        if moved is None:
            continue
        curve.offer(_downwards(problem, refit(problem, moved), below))
        if problem.gram is not None and above > size:
            added = forward(problem, above - size, 0.0, moved)
            curve.offer(nested(problem, moved.joined(moved, problem.atoms.take(added))))
