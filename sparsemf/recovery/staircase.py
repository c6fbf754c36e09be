"""The upper curve U(S): for every S an explicit S-atom dictionary and a certified bound of ‖f − f_S‖.

Three sources, the best of which counts at each S (U is made monotone, as fewer atoms are allowed):
the greedy selection path (every S), merged clusters, and jointly refined dictionaries (small S and the S at which
the merge path has its largest drops).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Empirical, Network
from sparsemf.recovery.cluster import MergePath, merge_path
from sparsemf.recovery.geometry import EmpiricalGeometry, GaussianGeometry, Geometry
from sparsemf.recovery.problem import Dictionary, Problem
from sparsemf.recovery.refine import Sample, refine
from sparsemf.recovery.refit import refit, solve
from sparsemf.recovery.selection import Selection, eliminate, select

Array = NDArray[np.float64]
Progress = Callable[[str, float], None]

_MOST_ELIMINATED = 2048
_MEANINGFUL_DROP = 3.0
#: Where K is too large to keep (more than 5000 atoms) the greedy path ends here; U stays there until S = n.
_LONGEST_PATH = 1024


def _silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Effort:
    """How hard to look: joint refinement for S ≤ ``refine_up_to`` and at ``drops`` more S, each with at most
    ``parameters`` free parameters; ``sample`` inputs steer it; ``certify`` sizes of the path are certified
    beyond the first 64."""

    refine_up_to: int = 8
    drops: int = 3
    parameters: int = 800
    sample: int = 4096
    certify: int = 48


@dataclass(frozen=True, eq=False)
class UpperCurve:
    """``upper[S]`` ≥ ‖f − f_S‖ for S = 0 … n (certified), and the explicit dictionaries behind it.

    ``norm`` is ‖f‖_⊥ (the free affine part removed); ``source[S]`` the size of the dictionary that gives upper[S];
    ``refined`` holds the dictionaries that are not a beginning of the ``selection`` path.
    """

    problem: Problem
    norm: float
    upper: Array
    source: NDArray[np.int64]
    refined: dict[int, Dictionary]
    selection: Selection

    def dictionary(self, size: int) -> Dictionary:
        """An explicit dictionary of at most ``size`` atoms with error upper[size]."""
        best = int(self.source[size])
        if best in self.refined:
            return self.refined[best]
        if best >= self.problem.n:
            return Dictionary(self.problem.atoms, self.problem.network.alpha, float(self.upper[size]))
        index = self.selection.order[:best]
        return Dictionary(self.problem.atoms.take(index), self.selection.coefficients(best), float(self.upper[size]))

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
    upper = np.full(n + 1, np.inf)
    upper[0] = problem.subset_error(np.arange(0), np.zeros((0, network.m)), np.zeros((n, 0))) if n else 0.0
    progress("selecting atoms", 0.1)
    longest = n if problem.gram is not None else _LONGEST_PATH
    selection = select(problem, longest, (0.1 * resolution * norm) ** 2)
    _certify_path(problem, selection, upper, effort, progress)
    upper[n] = 0.0
    refined: dict[int, Dictionary] = {}
    _eliminate(problem, upper, refined, effort)
    if n > 1:
        _refine(problem, selection, upper, refined, effort, resolution * norm, progress)
    source = np.arange(n + 1)
    for size in range(1, n + 1):
        if upper[size] >= upper[size - 1]:
            upper[size], source[size] = upper[size - 1], source[size - 1]
    return UpperCurve(problem, norm, upper + floor, source, refined, selection)


def _certify_path(problem: Problem, selection: Selection, upper: Array, effort: Effort, progress: Progress) -> None:
    """Certified errors along the greedy path: every S up to 64, then log-spaced sizes (U is monotone between)."""
    steps = selection.order.size
    sizes = set(range(1, min(steps, 64) + 1))
    if steps > 64:
        sizes |= {int(s) for s in np.unique(np.geomspace(64, steps, effort.certify).astype(int))}
    cross = problem.columns(selection.order) if problem.gram is None and steps else None
    for done, size in enumerate(sorted(sizes)):
        index = selection.order[:size]
        known = None if cross is None else cross[:, :size]
        upper[size] = min(upper[size], problem.subset_error(index, selection.coefficients(size), known))
        progress("certifying the selection path", 0.1 + 0.4 * done / len(sizes))


def _eliminate(problem: Problem, upper: Array, kept: dict[int, Dictionary], effort: Effort) -> None:
    """Certified errors along backward elimination, from n − 1 down to n/2 atoms, where it beats the greedy path.

    Only where most atoms matter: when half of them already come within 2 %, there is nothing to gain.
    """
    n = problem.n
    if problem.gram is None or not 4 <= n <= _MOST_ELIMINATED:
        return
    if float(np.min(upper[: n // 2 + 1])) <= 0.02 * float(np.sqrt(problem.energy)):
        return
    removed = eliminate(problem, problem.gram, n // 2)
    if removed is None:
        return
    dropped = np.unique(np.geomspace(1, removed.size, effort.certify // 2).astype(int))
    for count in dropped:
        size = n - int(count)
        index = np.setdiff1d(np.arange(n), removed[:count])
        beta = solve(problem.gram[np.ix_(index, index)], problem.image[index])
        error = problem.subset_error(index, beta)
        if error < min(upper[: size + 1]):
            upper[size] = error
            kept[size] = Dictionary(problem.atoms.take(index), beta, error)


def _refine(
    problem: Problem,
    selection: Selection,
    upper: Array,
    refined: dict[int, Dictionary],
    effort: Effort,
    target: float,
    progress: Progress,
) -> None:
    """Joint refinement, S by S: the better of (clusters' centres) and (previous atoms + the best new one)."""
    network = problem.network
    with_bias = bool(network.bias.any())
    per_atom = network.d + int(with_bias)
    most = min(problem.n - 1, effort.parameters // per_atom)
    if most < 1:
        return
    path = merge_path(problem)
    sizes = _sizes(path, most, effort)
    x = problem.geometry.sample(max(effort.sample, min(6 * sizes[-1] * per_atom, 4 * effort.sample)))
    sample = Sample.of(x, network(x))
    previous: Dictionary | None = None
    for done, size in enumerate(sizes):
        progress("refining atoms", 0.5 + 0.5 * done / len(sizes))
        starts = [refit(problem, path.centres(size))]
        if previous is not None and previous.atoms.n == size - 1:
            starts.append(refit(problem, Atoms.joined(previous.atoms, _best_new_atom(problem, previous))))
        elif selection.order.size >= size:
            starts.append(refit(problem, problem.atoms.take(selection.order[:size])))
        best = min(starts, key=lambda found: found.error)
        moved = refit(problem, refine(best.atoms, sample, with_bias).atoms)
        previous = min(best, moved, key=lambda found: found.error)
        if previous.error < upper[size]:
            upper[size], refined[size] = previous.error, previous
        if min(upper[: size + 1]) <= target:
            break


def _sizes(path: MergePath, most: int, effort: Effort) -> list[int]:
    """1 … refine_up_to, and the sizes after which the merge path has its largest relative drops."""
    sizes = set(range(1, min(most, effort.refine_up_to) + 1))
    costs = path.costs()[: most + 1]
    if costs.size > 2:
        drop = costs[:-1] / np.maximum(costs[1:], 1e-300)  # from S + 1 = index + 2 clusters on, merging is cheap
        for index in np.argsort(-drop)[: effort.drops]:
            if drop[index] >= _MEANINGFUL_DROP and index + 2 <= most:
                sizes.add(int(index) + 2)
    return sorted(sizes)


def _best_new_atom(problem: Problem, current: Dictionary) -> Atoms:
    """The particle of f with the largest ‖⟨φ_i, r⟩‖²/‖φ_i − Πφ_i‖²."""
    cross = problem.geometry.gram(problem.atoms, current.atoms)
    own = problem.geometry.gram(current.atoms, current.atoms)
    own += 1e-12 * np.trace(own) * np.eye(own.shape[0])
    correlation = problem.image - cross @ current.beta
    left = problem.diagonal - np.einsum("is,si->i", cross, np.linalg.solve(own, cross.T))
    score = np.sum(correlation**2, axis=1) / np.maximum(left, 1e-9 * np.maximum(problem.diagonal, 1e-300))
    score[problem.diagonal <= 0] = -1.0
    return problem.atoms.take(np.array([int(np.argmax(score))]))
