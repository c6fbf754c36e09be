"""Is the optimum unique, and does its number of atoms survive noise?  (Duval & Peyré, Found. Comput. Math. 15 (2015).)

Let ν = Σ α_i δ_{θ_i} solve the program with η = Φ*r/λ.  Every optimal measure has the same r, hence the same η, and
lives where ‖η‖ = 1.

*Unique.*  If ‖η‖ < 1 outside the balls B(θ_i, ρ), if each ball holds one point with ‖η‖ = 1 (strict concavity there),
and if the features φ(θ_i) are linearly independent, ν is the only optimum.

*Stable* (loc. cit., Thm 2, in the form used here).  If moreover the Hessians of ‖η‖ at the θ_i are negative definite
and the family (φ(θ_i), ∂φ(θ_i)) is linearly independent, then for noise w of small L² norm the solution still has
exactly one atom in each ball.  What is certified here is the first step of it: another target f* + w has, by the
non-expansiveness of the projection r ↦ proj{‖Φ*q‖_∞ ≤ λ}(f* + w), a residual within ‖w‖ of r, so ‖η_w − η‖_∞ ≤ ‖w‖
sup‖φ‖/λ and

    ‖w‖ < λ·margin / sup_Θ‖φ‖,   margin = 1 − sup_{outside the balls} ‖η‖,

leaves ‖η_w‖ < 1 outside the balls: **no atom appears elsewhere**.  And where ‖w‖ sup‖Hess φ‖/λ is below the least
curvature on the balls, ‖η_w‖ stays strictly concave there, so each ball holds **at most one** atom: S(f* + w) ≤ S.

Both need the exact solution.  The computed one has a gap; ½‖r − r*‖² ≤ gap (strong concavity of the dual), so its
distance √(2·gap)·sup‖φ‖/λ is taken off the margin, and with it the statement holds for the true optimum.

*Piecewise linear σ on data.*  η is linear on cells; the Hessian does not exist on walls, and the report says "not
applicable" for curvature; the margin outside the caps and the independence of the features are as above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.certificates.convex import polyhedral, sliding
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.parameters import Chart
from sparsemf.certificates.convex.result import BlassoResult, Effort
from sparsemf.certificates.convex.smoothness import smoothness
from sparsemf.certificates.convex.supremum import Supremum
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Nondegeneracy:
    """The report.

    Attributes
    ----------
    radius:
        ρ of the balls (angles of caps on the sphere) around the atoms.
    outside:
        sup ‖η‖ outside them, as bounded.
    margin:
        1 − that bound − what the duality gap may move η: a *certificate* when positive; None without a bound.
    curvature:
        For each atom an upper bound of the largest eigenvalue of the Hessian of ‖η‖ over its ball (interior atoms of
        smooth σ on ball × interval): a certificate of strict concavity where negative; NaN where not applicable.
    hessian:
        For each atom the largest eigenvalue of the Hessian of ‖η‖ in Θ at the atom, by differences: an *estimate*.
    independence:
        σ_min/σ_max of the normalised family (φ(θ_i), ∂φ(θ_i)α_i/‖α_i‖): an *estimate* of linear independence.
    noise:
        ‖w‖_{L²(ρ)} below which no atom appears outside the balls: a *certificate*; None without a positive margin.
    noise_single:
        ‖w‖ below which, moreover, each ball holds at most one atom: a certificate; None where it is not shown.
    separated:
        Certified: every optimum has all its atoms in the balls and at most one in each.  With independent features (an
        estimate here) the optimum is then unique.
    message:
        The same in words.
    """

    radius: float
    outside: Supremum
    margin: float | None
    curvature: Array
    hessian: Array
    independence: float
    noise: float | None
    noise_single: float | None
    separated: bool
    message: str


def nondegeneracy(result: BlassoResult, radius: float, effort: Effort | None = None) -> Nondegeneracy:
    """The report for balls of ``radius`` around the atoms; raises :class:`InputError` for a radius ≤ 0 (≥ π/2 on the
    sphere) and for the zero measure."""
    observation, measure, lam = result.observation, result.measure, result.lam
    space = observation.space
    if not (0 < radius < (np.pi / 2 if space.sphere else np.inf)):
        raise InputError(f"radius: expected a positive radius of the balls, below π/2 on the sphere, got {radius}")
    if not measure.size:
        raise InputError("non-degeneracy: expected a measure with atoms, got the zero measure")
    effort = effort or Effort(tolerance=1e-4)
    piecewise = isinstance(observation.activation, PiecewiseLinear) and isinstance(observation, DataObservation)
    centres = measure.theta
    relation = observation.activation.relation
    if relation and not (relation.constant or relation.linear or relation.quadratic):
        centres = np.concatenate([centres, -centres])  # ‖η‖ is even
    if isinstance(observation, DataObservation) and piecewise:
        raw = polyhedral.bounded_sup(observation, measure, 0.0, effort, (centres, radius))
    else:
        raw = sliding.bounded_sup(observation, measure, 1e-3 * lam, effort, (centres, radius))
    outside = Supremum(
        raw.lower / lam,
        None if raw.upper is None else raw.upper / lam,
        raw.how,
        raw.regions,
        raw.error / lam,
        raw.argmax,
    )
    size = _largest_atom(result)
    drift = None if result.gap is None else float(np.sqrt(2 * result.gap)) * size / lam
    margin = None
    if outside.upper is not None and drift is not None:
        margin = 1 - outside.upper - drift
    curvature = np.full(measure.size, np.nan) if piecewise else _curvature(result, radius)
    hessian = np.full(measure.size, np.nan) if piecewise else _hessian(result)
    noise = lam * margin / size if margin is not None and margin > 0 else None
    single, separated = None, False
    if noise is not None and np.all(curvature < 0) and drift is not None:
        bend = _largest_bend(result)
        least = float(np.min(-curvature)) - float(np.sqrt(2 * (result.gap or 0.0))) * bend / lam
        separated = least > 0
        single = min(noise, lam * least / bend) if least > 0 else None
    independence = _independence(result)
    return Nondegeneracy(
        radius,
        outside,
        margin,
        curvature,
        hessian,
        independence,
        noise,
        single,
        separated,
        _message(margin, separated, single, independence, piecewise),
    )


def _message(margin: float | None, separated: bool, single: float | None, independence: float, piecewise: bool) -> str:
    if margin is None:
        return "no certificate: sup‖η‖ outside the balls, or the duality gap, was not bounded"
    if margin <= 0:
        return "no certificate: ‖η‖ may reach 1 outside the balls; larger balls or a smaller gap may help"
    words = f"certified: every optimum lives in the balls, also under small noise (margin {margin:.3g})"
    if separated and single is not None:
        words += (
            "; ‖η‖ is strictly concave on each ball, so each holds at most one atom, also under noise below the limit"
        )
    elif piecewise:
        words += "; curvature does not apply to a piecewise-linear η, so the number of atoms in a ball is not bounded"
    else:
        words += "; strict concavity on the balls was not shown (smaller balls may help, or atoms lie on the rim of Θ)"
    return words + f"; linear independence is an estimate (ratio {independence:.2g})"


def _largest_atom(result: BlassoResult) -> float:
    """sup_Θ ‖φ(θ)‖, rounded up (for a free affine part the projection only shortens)."""
    observation, space = result.observation, result.observation.space
    if isinstance(observation, DataObservation):
        return observation.atom_size()
    reach = np.array([1.0 if space.sphere else space.radius])
    shift = np.array([float(space.bias) if space.sphere else space.bias_radius])
    return float(observation.activation.size(reach, shift)[0])


def _largest_bend(result: BlassoResult) -> float:
    """sup_Θ ‖D²φ(θ)[v, v]‖_{L²(ρ)} for |v| = 1: sup|σ″|·√(E⟨v, x̃⟩⁴), at most sup|σ″|·√(E|x̃|⁴) on data and √3·sup|σ″|
    under N(0, I)."""
    observation = result.observation
    sup2 = smoothness(observation.activation).sup2
    if isinstance(observation, DataObservation):
        fourth = float(np.mean(np.sum(observation.design**2, axis=1) ** 2))
        return sup2 * float(np.sqrt(fourth)) * (1 + 1e-10)
    return sup2 * float(np.sqrt(3.0)) * (1 + 1e-10)


def _curvature(result: BlassoResult, radius: float) -> Array:
    """Upper bounds of λ_max(Hess ‖η‖) over the balls, for one output and balls inside Θ; NaN elsewhere."""
    observation, measure, space = result.observation, result.measure, result.observation.space
    out = np.full(measure.size, np.nan)
    constants = observation.curvature(measure)
    if space.sphere or observation.m != 1 or not np.isfinite(constants.third):
        return out
    jet = constants.oracle.jet(measure.theta @ constants.embed.T, 2)
    if jet.hessian is None:
        return out
    sign = np.sign(measure.alpha[:, 0])
    form = sign[:, None, None] * jet.hessian[:, 0]
    largest = np.linalg.eigvalsh(form)[:, -1] + 1e-12 * np.linalg.norm(form, axis=(1, 2)) + constants.error
    inside = np.linalg.norm(space.weights(measure.theta), axis=1) + radius <= space.radius
    if space.bias:
        inside &= np.abs(space.biases(measure.theta)) + radius <= space.bias_radius
    # directions outside the effective coordinates leave η unchanged only on data; there it is not strictly concave
    inside &= constants.embed.shape[0] >= space.dim or constants.half is not None
    # D³ on the ball: the global bound, or that at the atom and how far it may move
    third = np.full(measure.size, constants.third)
    if np.isfinite(constants.fourth):
        at_atom = constants.oracle.third_at(measure.theta @ constants.embed.T)
        third = np.minimum(third, at_atom + constants.fourth * radius)
    return np.where(inside, (largest + third * radius) / result.lam, np.nan)


def _hessian(result: BlassoResult) -> Array:
    """λ_max of the Hessian of ‖η‖ along Θ at each atom by central differences of the gradient (estimate)."""
    observation, measure, space = result.observation, result.measure, result.observation.space
    chart = Chart.at(space, measure.theta)
    dim, step = space.dim, 1e-5 * space.reach

    def gradient(y: Array) -> Array:
        jet = observation.jet(measure, chart.point(y), 1)
        size = np.maximum(np.linalg.norm(jet.value, axis=1), 1e-300)
        return chart.pull_back(y, np.einsum("nm,nmd->nd", jet.value / size[:, None], jet.jacobian))

    form = np.stack(
        [(gradient(measure.theta + step * e) - gradient(measure.theta - step * e)) / (2 * step) for e in np.eye(dim)],
        axis=2,
    )
    form = 0.5 * (form + form.transpose(0, 2, 1)) / result.lam
    out = np.empty(measure.size)
    for i in range(measure.size):
        # away from the normal of the face on which the atom lies, where the chart is constant
        normal = np.zeros((0, dim))
        if chart.rim[i]:
            n = np.array(measure.theta[i])
            if not space.sphere and space.bias:
                n[-1] = 0.0
            normal = np.concatenate([normal, n[None] / np.linalg.norm(n)])
        if chart.held[i]:
            normal = np.concatenate([normal, np.eye(dim)[-1:]])
        tangent = np.linalg.svd(normal, full_matrices=True)[2][len(normal) :] if len(normal) else np.eye(dim)
        out[i] = np.linalg.eigvalsh(tangent @ form[i] @ tangent.T)[-1] if len(tangent) else -np.inf
    return out


def _independence(result: BlassoResult) -> float:
    """σ_min/σ_max of the normalised family (φ(θ_i), ∂_j φ(θ_i)), derivatives by differences inside the Gram matrix."""
    observation, measure, space = result.observation, result.measure, result.observation.space
    step = 1e-4 * space.reach
    chart = Chart.at(space, measure.theta)
    points = [measure.theta]
    for e in np.eye(space.dim):
        points += [chart.point(measure.theta + step * e), chart.point(measure.theta - step * e)]
    gram = observation.gram(np.concatenate(points), np.concatenate(points))
    s, dim = measure.size, space.dim
    mix = np.zeros((s * (1 + dim), gram.shape[0]))
    mix[:s, :s] = np.eye(s)
    for j in range(dim):
        rows = slice(s * (1 + j), s * (2 + j))
        mix[rows, s * (1 + 2 * j) : s * (2 + 2 * j)] = np.eye(s) / (2 * step)
        mix[rows, s * (2 + 2 * j) : s * (3 + 2 * j)] = -np.eye(s) / (2 * step)
    family = mix @ gram @ mix.T
    diagonal = np.diag(family)
    kept = diagonal > 1e-6 * np.max(diagonal)
    if space.sphere:
        # Euler: along θ the derivative is 0 in the chart; the tangent directions are dim − 1 many
        tangents = []
        for i in range(s):
            basis = np.linalg.svd(measure.theta[i : i + 1], full_matrices=True)[2][1:]
            for t in basis:
                row = np.zeros(s * (1 + dim))
                row[s * (1 + np.arange(dim)) + i] = t
                tangents.append(row)
        pick = np.concatenate([np.eye(s, s * (1 + dim)), np.array(tangents).reshape(-1, s * (1 + dim))])
        family = pick @ family @ pick.T
        diagonal = np.diag(family)
        kept = diagonal > 1e-6 * np.max(diagonal)
    family = family[np.ix_(kept, kept)] / np.sqrt(np.outer(diagonal[kept], diagonal[kept]))
    values = np.linalg.eigvalsh(family)
    return float(np.sqrt(max(values[0], 0.0) / values[-1]))
